"""Bodies that were compared at equal work: `python -m training.bodies NAME RECIPE --data PICTURES`.

Every one enlarges four times and takes about 88,000 multiply-adds for a pixel of the input, which
is what the plain body of 8 layers of 32 takes. They are trained as the recipe says, its `[network]`
aside, and scored on what it holds out. `training/experiments.md` has the figures. Only the plain
body is shipped; the others can be trained and scored, not exported.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import sources
from training.checkpoint import CheckpointError
from training.data import DataError
from training.loop import TrainingError, train
from training.networks.layers import balanced_conv3, bf16_if, conv3, repeat_kernel
from training.objectives import Pixel
from training.recipe import RecipeError, read_recipe

SCALE = 4
COLOURS = 3
VALUES = COLOURS * SCALE**2
WIDTH = 32
TAIL_NOISE = 0.3
"""What is left of the tail's initial weights, as in `PlainNet`."""


class Body(nn.Module):
    """An anchor, which enlarges without knowing much, and a body, which adds what is missing.

    Args:
        body: (N, 3, H, W) to (N, 48, H, W), or (N, 16, H, W): the same for all three colours.
        anchor: (N, 3, H, W) to (N, 3, 4 * H, 4 * W); nearest-neighbour if not given.
    """

    def __init__(self, body: nn.Module, anchor: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.anchor = Shuffled(1) if anchor is None else anchor
        self.bf16 = False

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale (N, 3, H, W), float, 0..1; not clipped."""
        with bf16_if(self.bf16 and self.training, lr):
            missing: Tensor = self.body(lr)
        missing = missing.to(lr.dtype)
        if missing.shape[1] < VALUES:
            missing = missing.repeat(1, COLOURS, 1, 1)
        added: Tensor = self.anchor(lr) + F.pixel_shuffle(missing, SCALE)
        return added


class Shuffled(nn.Module):
    """One convolution and a shuffle that begin as nearest-neighbour; of 1 px they stay it."""

    def __init__(self, kernel_px: int) -> None:
        super().__init__()
        weight = torch.zeros(VALUES, COLOURS, kernel_px, kernel_px)
        middle = kernel_px // 2
        weight[:, :, middle, middle] = repeat_kernel(COLOURS, SCALE)[:, :, 0, 0]
        self.weight = nn.Parameter(weight, requires_grad=kernel_px > 1)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge."""
        return F.pixel_shuffle(F.conv2d(lr, self.weight, padding="same"), SCALE)


class Interpolated(nn.Module):
    """`bilinear` or `bicubic` enlargement."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge."""
        return F.interpolate(lr, scale_factor=SCALE, mode=self.mode, align_corners=False)


class Nothing(nn.Module):
    """Black: the body makes the whole picture."""

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge black."""
        height, width = (side * SCALE for side in lr.shape[2:])
        return lr.new_zeros(lr.shape[0], COLOURS, height, width)


class Residual(nn.Module):
    """Two convolutions whose result is added to what came in, with no ReLU behind the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = balanced_conv3(width, width)
        self.second = balanced_conv3(width, width, gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        added: Tensor = x + self.second(F.relu(self.first(x)))
        return added


class Partial(nn.Module):
    """Half of the channels go through a 3x3 convolution, then all through one of 1x1.

    Chen et al. 2023 (FasterNet, arXiv:2303.03667), who convolve a quarter.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolved = width // 2
        self.some, self.all = conv3(self.convolved, self.convolved), _conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return as many channels."""
        mixed = torch.cat([self.some(x[:, : self.convolved]), x[:, self.convolved :]], 1)
        return F.relu(self.all(mixed))


def _conv(inputs: int, outputs: int, kernel_px: int) -> nn.Conv2d:
    """A convolution of another size that begins as `conv3` does."""
    conv = nn.Conv2d(inputs, outputs, kernel_px, padding=kernel_px // 2)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    with torch.no_grad():
        conv.weight.mul_(0.3).add_(nn.init.dirac_(torch.empty_like(conv.weight)))
    return conv


def stack(widths: Sequence[int], *, kernel_px: int = 3, dilations: Sequence[int] = ()) -> nn.Module:
    """Build 3x3 convolutions with ReLU between them; those inside may be larger or dilated."""
    convs = []
    last = len(widths) - 2
    for number, (before, after) in enumerate(itertools.pairwise(widths)):
        inside = 0 < number < last
        larger = inside and kernel_px > 3
        convs.append(_conv(before, after, kernel_px) if larger else conv3(before, after))
        if inside and dilations:
            dilation = dilations[number - 1]
            convs[-1].dilation = convs[-1].padding = (dilation, dilation)
    with torch.no_grad():
        convs[-1].weight.mul_(TAIL_NOISE)
    layers = [layer for conv in convs for layer in (conv, nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def plain(width: int = WIDTH, depth: int = 8, *, outputs: int = VALUES) -> nn.Module:
    """Build the body of `PlainNet`."""
    return stack([COLOURS, *[width] * (depth + 1), outputs])


def residual(width: int, blocks: int, *, inputs: int = COLOURS, outputs: int = VALUES) -> nn.Module:
    """Build residual blocks between a head and a tail."""
    head, tail = balanced_conv3(inputs, width), balanced_conv3(width, outputs, gain=0.1)
    return nn.Sequential(head, *[Residual(width) for _ in range(blocks)], tail)


def halved(inside: nn.Module) -> nn.Module:
    """Run a body of 12 to 192 channels at half of the resolution."""
    return nn.Sequential(nn.PixelUnshuffle(2), inside, nn.PixelShuffle(2))


def partial(width: int, depth: int) -> nn.Module:
    """Build a stack of partial convolutions."""
    head, tail = conv3(COLOURS, width), conv3(width, VALUES)
    with torch.no_grad():
        tail.weight.mul_(TAIL_NOISE)
    return nn.Sequential(head, nn.ReLU(), *[Partial(width) for _ in range(depth)], tail)


BODIES: dict[str, Callable[[], Body]] = {
    "plain": lambda: Body(plain()),
    "residual": lambda: Body(residual(WIDTH, 4)),
    "dilated": lambda: Body(
        stack([COLOURS, *[WIDTH] * 9, VALUES], dilations=(1, 1, 2, 1, 2, 1, 2, 1))
    ),
    "half": lambda: Body(halved(stack([12, *[64] * 7, 4 * VALUES]))),
    "half_residual": lambda: Body(halved(residual(64, 3, inputs=12, outputs=4 * VALUES))),
    "wide": lambda: Body(plain(45, 4)),
    "narrow": lambda: Body(plain(23, 16)),
    "kernel5": lambda: Body(stack([COLOURS, *[WIDTH] * 4, VALUES], kernel_px=5)),
    "partial": lambda: Body(partial(WIDTH, 22)),
    "luma": lambda: Body(plain(WIDTH, 9, outputs=SCALE**2)),
    "anchor_bilinear": lambda: Body(plain(), Interpolated("bilinear")),
    "anchor_bicubic": lambda: Body(plain(), Interpolated("bicubic")),
    "anchor_learned": lambda: Body(plain(), Shuffled(5)),
    "anchor_none": lambda: Body(plain(), Nothing()),
}
"""By name; the anchor is nearest-neighbour unless the name says otherwise."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train one body; return 0, or 1 after one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m training.bodies", description=__doc__)
    parser.add_argument("body", choices=BODIES)
    parser.add_argument("recipe", type=Path, help="such as training/recipes/equal_work_x4.toml")
    parser.add_argument("--data", type=Path, help="folder of pictures, nested")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; continues it")
    parser.add_argument("--cache", type=Path, help="folder for decoded pictures, kept")
    parser.add_argument("--threads", type=int, help="CPU threads")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        recipe = read_recipe(arguments.recipe)
        if (recipe.family, recipe.objective, recipe.scale) != ("gan", "pixel", SCALE):
            raise RecipeError(f"{arguments.recipe}: expected the pixel stage of family gan, x4")
        supply = sources.build(recipe, sources.Folders(arguments.data, cache=arguments.cache))
        torch.manual_seed(recipe.seed)
        objective = Pixel(recipe, BODIES[arguments.body]())
        train(recipe, supply.source, arguments.out, holdout=supply.holdout, objective=objective)
    except (CheckpointError, DataError, RecipeError, TrainingError, OSError) as error:
        sys.stderr.write(f"bodies: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
