"""Compare architectures at equal compute: `python -m training.bodies NAME RECIPE --data DIR`.

Each architecture enlarges four times at about 88,000 multiply-adds per input pixel, the cost of the
plain body of 8 layers of 32 channels. It is trained by the recipe, whose `[network]` is ignored,
and scored on its validation split. `training/experiments.md` has the figures. Only the plain body
is shipped; the others can be trained and scored, but not exported.
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

from training.data import batches
from training.loop import train
from training.networks.layers import balanced_conv3, bf16_if, conv3, repeat_kernel
from training.objectives import Pixel
from training.recipe.schema import RecipeError, read_recipe
from training.usage import Parser, exit_code

SCALE = 4
COLORS = 3
VALUES = COLORS * SCALE**2
WIDTH = 32
TAIL_NOISE = 0.3
"""Factor on the tail's initial weights, as in `PlainNet`."""


class Body(nn.Module):
    """An anchor, which is a simple upscaler, plus a body that predicts the residual.

    Args:
        body: (N, 3, H, W) to (N, 48, H, W), or to (N, 16, H, W), shared by all three colors.
        anchor: (N, 3, H, W) to (N, 3, 4 * H, 4 * W); nearest-neighbor if not given.
    """

    def __init__(self, body: nn.Module, anchor: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.anchor = Shuffled(1) if anchor is None else anchor
        self.bf16 = False

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale (N, 3, H, W), float, 0..1; not clipped."""
        with bf16_if(self.bf16 and self.training, lr):
            residual: Tensor = self.body(lr)
        residual = residual.to(lr.dtype)
        if residual.shape[1] < VALUES:
            residual = residual.repeat(1, COLORS, 1, 1)
        upscaled: Tensor = self.anchor(lr) + F.pixel_shuffle(residual, SCALE)
        return upscaled


class Shuffled(nn.Module):
    """A convolution and a PixelShuffle, nearest-neighbor at first; a 1 px kernel is fixed."""

    def __init__(self, kernel_px: int) -> None:
        super().__init__()
        weight = torch.zeros(VALUES, COLORS, kernel_px, kernel_px)
        middle = kernel_px // 2
        weight[:, :, middle, middle] = repeat_kernel(COLORS, SCALE)[:, :, 0, 0]
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
    """No anchor (black): the body predicts the whole picture."""

    def forward(self, lr: Tensor) -> Tensor:
        """Return black pictures of the output size."""
        height, width = (side * SCALE for side in lr.shape[2:])
        return lr.new_zeros(lr.shape[0], COLORS, height, width)


class Residual(nn.Module):
    """Two convolutions with a skip connection and no ReLU after the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = balanced_conv3(width, width)
        self.second = balanced_conv3(width, width, gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, H, W) to the same shape."""
        result: Tensor = x + self.second(F.relu(self.first(x)))
        return result


class Partial(nn.Module):
    """A 3x3 convolution on half of the channels, then a 1x1 convolution on all.

    Chen et al. 2023 (FasterNet, arXiv:2303.03667), who convolve a quarter.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolved = width // 2
        self.some, self.all = conv3(self.convolved, self.convolved), _conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, H, W) to the same shape."""
        mixed = torch.cat([self.some(x[:, : self.convolved]), x[:, self.convolved :]], 1)
        return F.relu(self.all(mixed))


def _conv(inputs: int, outputs: int, kernel_px: int) -> nn.Conv2d:
    """Build a convolution of any kernel size, initialized as in `conv3`."""
    conv = nn.Conv2d(inputs, outputs, kernel_px, padding=kernel_px // 2)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    with torch.no_grad():
        conv.weight.mul_(0.3).add_(nn.init.dirac_(torch.empty_like(conv.weight)))
    return conv


def stack(widths: Sequence[int], *, kernel_px: int = 3, dilations: Sequence[int] = ()) -> nn.Module:
    """Build 3x3 convolutions with ReLU between them; inner ones may be larger or dilated."""
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
    return stack([COLORS, *[width] * (depth + 1), outputs])


def residual(width: int, blocks: int, *, inputs: int = COLORS, outputs: int = VALUES) -> nn.Module:
    """Build residual blocks between a head and a tail."""
    head, tail = balanced_conv3(inputs, width), balanced_conv3(width, outputs, gain=0.1)
    return nn.Sequential(head, *[Residual(width) for _ in range(blocks)], tail)


def halved(inside: nn.Module) -> nn.Module:
    """Run a body, 12 channels in and 192 out, at half the resolution."""
    return nn.Sequential(nn.PixelUnshuffle(2), inside, nn.PixelShuffle(2))


def partial(width: int, depth: int) -> nn.Module:
    """Build a stack of partial convolutions."""
    head, tail = conv3(COLORS, width), conv3(width, VALUES)
    with torch.no_grad():
        tail.weight.mul_(TAIL_NOISE)
    return nn.Sequential(head, nn.ReLU(), *[Partial(width) for _ in range(depth)], tail)


BODIES: dict[str, Callable[[], Body]] = {
    "plain": lambda: Body(plain()),
    "residual": lambda: Body(residual(WIDTH, 4)),
    "dilated": lambda: Body(
        stack([COLORS, *[WIDTH] * 9, VALUES], dilations=(1, 1, 2, 1, 2, 1, 2, 1))
    ),
    "half": lambda: Body(halved(stack([12, *[64] * 7, 4 * VALUES]))),
    "half_residual": lambda: Body(halved(residual(64, 3, inputs=12, outputs=4 * VALUES))),
    "wide": lambda: Body(plain(45, 4)),
    "narrow": lambda: Body(plain(23, 16)),
    "kernel5": lambda: Body(stack([COLORS, *[WIDTH] * 4, VALUES], kernel_px=5)),
    "partial": lambda: Body(partial(WIDTH, 22)),
    "luma": lambda: Body(plain(WIDTH, 9, outputs=SCALE**2)),
    "anchor_bilinear": lambda: Body(plain(), Interpolated("bilinear")),
    "anchor_bicubic": lambda: Body(plain(), Interpolated("bicubic")),
    "anchor_learned": lambda: Body(plain(), Shuffled(5)),
    "anchor_none": lambda: Body(plain(), Nothing()),
}
"""Architectures by name; the anchor is nearest-neighbor unless the name says otherwise."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train one architecture; return 0, or 1 after a one-line error."""
    parser = Parser(prog="python -m training.bodies", description=__doc__)
    parser.add_argument("body", choices=BODIES, metavar="NAME", help=f"one of {', '.join(BODIES)}")
    parser.add_argument(
        "recipe", type=Path, help="TOML file, such as training/recipes/equal_work_x4.toml"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of pictures, searched recursively"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the run; an existing run is resumed",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder of decoded pictures (default: the user's cache folder)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="number of CPU threads")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    return exit_code(parser.prog, lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    recipe = read_recipe(arguments.recipe)
    if (recipe.family, recipe.objective, recipe.scale) != ("gan", "pixel", SCALE):
        raise RecipeError(f"{arguments.recipe}: expected the pixel stage of family gan, x4")
    supply = batches.build(recipe, batches.Folders(arguments.data, cache=arguments.cache))
    torch.manual_seed(recipe.seed)
    objective = Pixel(recipe, BODIES[arguments.body]())
    train(recipe, supply.source, arguments.out, holdout=supply.holdout, objective=objective)


if __name__ == "__main__":
    sys.exit(main())
