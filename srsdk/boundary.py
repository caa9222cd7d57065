"""Between a tile's pixels and what a model's graph takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from srsdk.errors import BackendError
from srsdk.manifest import Manifest
from srsdk.tiles import Array, Picture

WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""The value of white in pictures of each dtype."""


@dataclass(frozen=True, slots=True)
class Boundary:
    """How one model wants its pixels; for our own files, uint8 NHWC, both ways are plain copies."""

    is_float: bool
    channels_first: bool
    channels: int
    size_px: tuple[int, int] | None
    white: float = 1.0
    """The graph's value of white, where it is of floats; uint8 graphs: 255."""

    @classmethod
    def of(cls, manifest: Manifest) -> Boundary:
        """Read it from the manifest."""
        is_float = manifest.dtype == "float32"
        return cls(
            is_float,
            manifest.layout == "NCHW",
            manifest.channels,
            manifest.size_px,
            1.0 if is_float else 255.0,
        )

    def input_shape(self, tile_px: tuple[int, int], batch: int = 1) -> tuple[int, int, int, int]:
        """Return the model's input shape for tiles of (height, width)."""
        height, width = self.size_px or tile_px
        if self.channels_first:
            return (batch, self.channels, height, width)
        return (batch, height, width, self.channels)

    def check_output(
        self, output: npt.NDArray[Any], input_shape: tuple[int, ...], scale: int
    ) -> None:
        """Refuse an output of another shape, of which a part would look like a picture.

        Raises:
            BackendError: it is not the input's shape with sides that are `scale` times as long.
        """
        sides = (2, 3) if self.channels_first else (1, 2)
        expected = tuple(n * scale if at in sides else n for at, n in enumerate(input_shape))
        if output.shape != expected:
            raise BackendError(
                f"the model gave {output.shape} for an input of {input_shape}, expected {expected}"
            )

    def stage(self, tile: Array, target: npt.NDArray[Any], index: int = 0) -> None:
        """Write a tile (h, w, C) into a slot's input, mirrored where the input is larger.

        Args:
            tile: what to write.
            target: the slot's input.
            index: which of its batch.
        """
        inside = self._as_hwc(target[index])
        missing = [(0, have - want) for have, want in zip(inside.shape, tile.shape, strict=True)]
        source = np.pad(tile, missing, mode="reflect") if any(map(any, missing)) else tile
        if self.is_float:
            factor = np.float32(self.white / WHITE[tile.dtype.name])
            np.multiply(source, factor, out=inside, casting="unsafe")
        else:
            inside[...] = source

    def unstage(
        self,
        output: npt.NDArray[Any],
        height: int,
        width: int,
        index: int = 0,
        dtype: npt.DTypeLike = np.uint8,
    ) -> Array:
        """Return the top left (height, width, C) of one of a slot's outputs as `dtype`."""
        result: Array = self._as_hwc(output[index])[:height, :width]
        kind = np.dtype(dtype)
        if not self.is_float:
            return result
        white = WHITE[kind.name]
        if kind == np.float32:
            return result * np.float32(white / self.white)
        levels = np.clip(result * np.float32(white / self.white), 0, white)
        return np.rint(levels).astype(kind)

    def _as_hwc(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return picture.transpose(1, 2, 0) if self.channels_first else picture


def levels_of(picture: Array) -> Picture:
    """Return a picture of any depth as uint8, a copy where it is deeper."""
    if picture.dtype == np.uint8:
        return picture
    levels = picture * np.float32(WHITE["uint8"] / WHITE[picture.dtype.name])
    return np.asarray(np.rint(np.clip(levels, 0, 255)), np.uint8)
