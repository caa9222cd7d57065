"""Between a tile's uint8 pixels and what a model's graph takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from srsdk.manifest import Manifest
from srsdk.tiles import Picture


@dataclass(frozen=True, slots=True)
class Boundary:
    """How one model wants its pixels; for our own files, uint8 NHWC, both ways are plain copies."""

    is_float: bool
    channels_first: bool
    channels: int
    size_px: tuple[int, int] | None

    @classmethod
    def of(cls, manifest: Manifest) -> Boundary:
        """Read it from the manifest."""
        return cls(
            manifest.dtype == "float32",
            manifest.layout == "NCHW",
            manifest.channels,
            manifest.size_px,
        )

    def input_shape(self, tile_px: tuple[int, int], batch: int = 1) -> tuple[int, int, int, int]:
        """Return the model's input shape for tiles of (height, width)."""
        height, width = self.size_px or tile_px
        if self.channels_first:
            return (batch, self.channels, height, width)
        return (batch, height, width, self.channels)

    def stage(self, tile: Picture, target: npt.NDArray[Any], index: int = 0) -> None:
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
            np.multiply(source, np.float32(1 / 255), out=inside, casting="unsafe")
        else:
            inside[...] = source

    def unstage(self, output: npt.NDArray[Any], height: int, width: int, index: int = 0) -> Picture:
        """Return the top left (height, width, C) of one of a slot's outputs as uint8."""
        result: Picture = self._as_hwc(output[index])[:height, :width]
        if not self.is_float:
            return result
        levels: Picture = np.rint(np.clip(result * np.float32(255), 0, 255)).astype(np.uint8)
        return levels

    def _as_hwc(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return picture.transpose(1, 2, 0) if self.channels_first else picture
