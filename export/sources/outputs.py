"""Find the picture among the results of a network that returns several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from export.errors import ExportError

Key = str | int | None


@dataclass(frozen=True)
class Found:
    """The picture among the results."""

    key: Key
    """Name or position; None: the result is the picture."""
    shape: tuple[int, ...]
    """(N, C, H, W), or whatever a single result has."""


class OnePicture(nn.Module):
    """Return one of the results of a network.

    Args:
        network: maps (N, C, H, W) to a tensor, a tuple, a list or a dict.
        key: which of them.
    """

    def __init__(self, network: nn.Module, key: Key) -> None:
        super().__init__()
        self.network = network
        self._key = key

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) floats to (N, C, H * scale, W * scale)."""
        result: Any = self.network(x)
        picture: Tensor = result if self._key is None else result[self._key]
        return picture


def find_picture(result: Any, picture: Tensor, wanted: Key, name: str, notes: list[str]) -> Found:
    """Return which result is the picture.

    Args:
        result: what the network returned.
        picture: what it was given, (N, C, H, W).
        wanted: name or position that the caller gives.
        name: of the network.
        notes: is told of a choice among several.

    Raises:
        ExportError: none is, or it is no tensor of floats.
    """
    if isinstance(result, Tensor):
        if not result.is_floating_point():
            raise ExportError(
                f"{name} returns {result.dtype}, expected floats 0..1: convert at its end"
            )
        return Found(None, tuple(result.shape))
    named = dict(_parts(result))
    shown = ", ".join(f"{key!r}: {_shape(part)}" for key, part in list(named.items())[:6])
    if not named:
        raise ExportError(f"{name} returns {type(result).__name__}, expected a tensor")
    if wanted is not None:
        if wanted not in named or not isinstance(named[wanted], Tensor):
            raise ExportError(f"{name} has no output {wanted!r}; it returns {shown}")
        return Found(wanted, tuple(named[wanted].shape))
    for key, part in named.items():
        if isinstance(part, Tensor) and part.is_floating_point() and _is_picture(part, picture):
            if len(named) > 1:
                notes.append(f"of its outputs ({shown}) the picture is {key!r}")
            return Found(key, tuple(part.shape))
    raise ExportError(f"{name} returns no picture: {shown}; name one with output=")


def _parts(result: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(result, Mapping):
        yield from result.items()
    elif isinstance(result, Sequence) and not isinstance(result, str):
        yield from enumerate(result)


def _is_picture(part: Tensor, picture: Tensor) -> bool:
    if part.ndim != 4 or part.shape[:2] != picture.shape[:2]:
        return False
    (height, width), (tall, wide) = picture.shape[2:], part.shape[2:]
    return tall % height == 0 and wide % width == 0 and tall // height == wide // width


def _shape(part: Any) -> str:
    return str(tuple(part.shape)) if isinstance(part, Tensor) else type(part).__name__
