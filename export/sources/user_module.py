"""Use a network of one's own as a source: what nobody says about it is found by running it."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from export.errors import ExportError, UsageError
from export.graph.dry_run import check_branches
from export.sources.module import TorchSource, check_finite, torch_source
from export.sources.outputs import OnePicture, find_picture

CHANNELS = (3, 1, 4)
MAX_SCALE = 16
MULTIPLES_PX = (1, 2, 4, 8, 16, 32, 64, 128)
"""Of the input size, to try where nobody says one."""
MOST_PX = 512 * 512
"""Largest picture to try."""
RANGE = 4.0
"""Results beyond this are not those of a network for 0..1, whatever its weights are."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the caller says about a network; what is None is found out."""

    name: str = ""
    """Of the model; empty: the class, in lower case."""
    scale: int | None = None
    """Output size over input size."""
    channels: int | None = None
    """Of the picture: 1, 3 or 4."""
    multiple_px: int | None = None
    """Input sizes are multiples of this."""
    output: str | int | None = None
    """Name or position of the picture among several results."""
    example: Tensor | None = None
    """(N, C, H, W) floats 0..1 of a size that is known to work."""
    notes: list[str] = field(default_factory=list)
    """Is filled with what was assumed."""


def open_module(network: nn.Module, form: Form, *, sha256: str = "") -> TorchSource:
    """Open a network that maps (N, C, H, W) floats 0..1 to (N, C, H * scale, W * scale).

    It is copied; the copy computes in float32 on the CPU, in evaluation mode.

    Args:
        network: the network.
        form: what is known about it.
        sha256: hash of its file; empty: that of its weights and of its class's code.

    Raises:
        ExportError: it maps no picture to a picture, or its weights are NaN; the message names the
            layer or the shape, and the fix.
        UsageError: `form` contradicts itself.
    """
    name = form.name or type(network).__name__.lower()
    _check_form(form)
    own = _copied(network, name)
    check_finite(own, name)
    trial = _Trial(own, form, name)
    channels, example = trial.first_picture()
    picture = find_picture(trial.run(example), example, form.output, name, form.notes)
    one = OnePicture(own, picture.key).eval()
    scale = _scale(picture.shape, example, form.scale, name)
    _check_values(one, example, name, form.notes)
    check_branches(one, example)
    multiple, size = trial.sizes(one, scale, example)
    return torch_source(
        one,
        name=name,
        family="foreign",
        scale=scale,
        channels=channels,
        multiple_px=multiple,
        size_px=size,
        sha256=sha256 or fingerprint(own, name),
        architecture=type(network).__name__,
    )


def fingerprint(network: nn.Module, name: str) -> str:
    """Return a hash of the weights, of the layers and of the code of their classes."""
    import inspect

    digest = hashlib.sha256(f"{name}\n{network}".encode())
    for part in {type(module) for module in network.modules()}:
        if not part.__module__.startswith("torch."):
            try:
                digest.update(inspect.getsource(part).encode())
            except (OSError, TypeError):
                digest.update(repr(part).encode())
    for key, value in network.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_form(form: Form) -> None:
    if form.channels is not None and form.channels not in CHANNELS:
        raise UsageError(f"channels={form.channels}: expected 1, 3 or 4")
    if form.scale is not None and not 1 <= form.scale <= MAX_SCALE:
        raise UsageError(f"scale={form.scale}: expected 1 to {MAX_SCALE}")
    if form.multiple_px is not None and form.multiple_px < 1:
        raise UsageError(f"multiple={form.multiple_px}: expected 1 or more")
    example = form.example
    if example is None:
        return
    if not isinstance(example, Tensor) or example.ndim != 4 or not example.is_floating_point():
        got = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise UsageError(f"example is {got}, expected a float tensor (N, C, H, W) of 0..1")
    if form.channels not in (None, example.shape[1]):
        raise UsageError(f"channels={form.channels}, but the example has {example.shape[1]}")


def _copied(network: nn.Module, name: str) -> nn.Module:
    if not isinstance(network, nn.Module):
        raise UsageError(f"{type(network).__name__} is no torch.nn.Module")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, while it copies graphs
            own = copy.deepcopy(network)
    except Exception as error:
        # a module may hold anything, and copying anything may raise anything
        raise ExportError(
            f"{name} cannot be copied: {_text(error)}; build it anew and load its state_dict"
        ) from error
    return own.cpu().float().eval()


class _Trial:
    """Run a network to find out what it takes."""

    def __init__(self, network: nn.Module, form: Form, name: str) -> None:
        self.network, self.form, self.name = network, form, name

    def first_picture(self) -> tuple[int, Tensor]:
        """Return the number of channels, and a picture that the network takes."""
        if self.form.example is not None:
            example = self.form.example.detach()[:1].cpu().float()
            self._must(example)
            return int(example.shape[1]), example
        wanted = (self.form.channels,) if self.form.channels else self._likely()
        multiple = self.form.multiple_px or 64
        side = -(-64 // multiple) * multiple
        errors = []
        for channels in wanted:
            for height, width in ((side, side + multiple), (256, 256)):
                example = _noise(channels, height, width)
                try:
                    self.run(example)
                except Exception as error:
                    # the network's own code: it may raise anything
                    errors.append(error)
                else:
                    return channels, example
        raise self._failed(_noise(wanted[0], side, side + multiple), errors[0])

    def _likely(self) -> Sequence[int]:
        """Return numbers of channels to try, that of the first convolution first."""
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d) and module.in_channels in CHANNELS:
                return (module.in_channels, *(c for c in CHANNELS if c != module.in_channels))
        return CHANNELS

    def _must(self, example: Tensor) -> None:
        try:
            self.run(example)
        except Exception as error:
            raise self._failed(example, error) from error

    def _failed(self, example: Tensor, error: Exception) -> ExportError:
        shape = tuple(example.shape)
        found = ExportError(
            f"{self.name} fails on a picture {shape}: {_text(error)}; give one that works as "
            "example=, or say channels= and multiple="
        )
        found.__cause__ = error
        return found

    @torch.no_grad()
    def run(self, picture: Tensor) -> Any:
        """Return whatever the network returns."""
        return self.network(picture)

    def sizes(
        self, one: nn.Module, scale: int, example: Tensor
    ) -> tuple[int, tuple[int, int] | None]:
        """Return the multiple of the input sizes, and the only size if there is only one."""
        if self.form.multiple_px is not None:
            multiple = self.form.multiple_px
            problem = _problem(one, example, scale, multiple)
            if problem:
                raise ExportError(f"{self.name} with multiple={multiple}: {problem}")
            return multiple, None
        for multiple in MULTIPLES_PX:
            if not (problem := _problem(one, example, scale, multiple)):
                if multiple > 1:
                    self.form.notes.append(f"input sizes are multiples of {multiple} (probed)")
                return multiple, None
        height, width = example.shape[2:]
        self.form.notes.append(f"the only input size is {height}x{width}: others fail: {problem}")
        return 1, (int(height), int(width))


@torch.no_grad()
def _problem(one: nn.Module, example: Tensor, scale: int, multiple: int) -> str:
    """Return why sizes that are multiples of a number do not work; empty: they do."""
    channels = example.shape[1]
    # a multiple of 1 stands for any size but tiny ones
    tried = ((17, 19), (21, 18), (23, 25)) if multiple == 1 else ((1, 3), (5, 2), (7, 9))
    for rows, columns in tried:
        height, width = rows * multiple, columns * multiple
        if height * width > MOST_PX:
            continue
        try:
            result = one(_noise(channels, height, width))
        except Exception as error:
            # the network's own code: it may raise anything
            return f"{height}x{width}: {_text(error)}"
        wanted = (1, channels, height * scale, width * scale)
        if tuple(result.shape) != wanted:
            return f"{height}x{width} gives {tuple(result.shape)}, expected {wanted}"
    return ""


def _scale(shape: Sequence[int], example: Tensor, said: int | None, name: str) -> int:
    """Return the scale between a picture and its result."""
    before, after = tuple(example.shape), tuple(shape)
    scale = after[2] // before[2] if len(after) == 4 else 0
    wanted = (before[0], before[1], before[2] * scale, before[3] * scale)
    if not 1 <= scale <= MAX_SCALE or after != wanted:
        fix = "return a picture of as many channels, and of 1 to 16 times the height and width"
        raise ExportError(f"{name} maps {before} to {after}, which is no picture of it: {fix}")
    if said not in (None, scale):
        raise ExportError(f"{name} maps {before} to {after}: that is x{scale}, not x{said}")
    return scale


@torch.no_grad()
def _check_values(one: nn.Module, example: Tensor, name: str, notes: list[str]) -> None:
    """Reject results that are NaN, naming the layer, and note those far from 0..1."""
    names: list[str] = []
    hooks = [
        module.register_forward_hook(
            lambda _, __, result, name=key: (
                names.append(name)
                if isinstance(result, Tensor) and not bool(torch.isfinite(result).all())
                else None
            )
        )
        for key, module in one.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)  # takes no hooks
    ]
    try:
        result = one(example)
    finally:
        for hook in hooks:
            hook.remove()
    if not bool(torch.isfinite(result).all()):
        first = names[0].removeprefix("network.").removeprefix("network") if names else ""
        layer = f" (first in layer {first!r})" if first else ""
        raise ExportError(
            f"{name} returns NaN or infinity for a picture of noise{layer}: check its weights, and "
            "divisions and roots that may reach 0"
        )
    largest = float(result.abs().max())
    if largest > RANGE:
        notes.append(
            f"results reach {largest:.3g} on noise, expected 0..1: if the network is for 0..255, "
            "multiply by 255 at its start and divide at its end"
        )


def _noise(channels: int, height: int, width: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.rand((1, channels, height, width), generator=random)


def _text(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
