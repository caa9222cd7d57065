"""Convert between a tile's pixels and a model's input and output tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from srsdk.engines.protocol import picture_shape
from srsdk.errors import BackendError
from srsdk.image.arrays import WHITE, Array
from srsdk.inference.blocks import has_blocks, joined
from srsdk.manifest import Manifest


def values_of(
    manifest: Manifest, inputs: Mapping[str, float] = MappingProxyType({})
) -> npt.NDArray[np.float32] | None:
    """Return the numbers for a network beside the picture, in its order; None: it takes none.

    Args:
        manifest: names them, with the defaults.
        inputs: those that a call gives.
    """
    if not manifest.inputs:
        return None
    return np.array([inputs.get(k, default) for k, default in manifest.inputs.items()], np.float32)


@dataclass(frozen=True, slots=True)
class Boundary:
    """Pixel format of one model; for srsdk's own files, uint8 NHWC, conversion is a plain copy."""

    is_float: bool
    channels_first: bool
    channels: int
    size_px: tuple[int, int] | None
    white: float = 1.0
    """Value of white in the graph: 1 for floats, 255 for uint8."""

    @classmethod
    def of(cls, manifest: Manifest) -> Boundary:
        """Make the boundary that a manifest describes."""
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
        """Reject an output of the wrong shape; a part of it could look like a valid picture.

        Raises:
            BackendError: the shape is not the input's with sides `scale` times as long.
        """
        sides = (2, 3) if self.channels_first else (1, 2)
        expected = tuple(n * scale if at in sides else n for at, n in enumerate(input_shape))
        if picture_shape(output.shape) != expected:
            raise BackendError(
                f"the model returned {output.shape} for input {input_shape}, expected {expected}"
            )

    def stage(self, tile: Array, target: npt.NDArray[Any], index: int = 0) -> None:
        """Write a tile (h, w, C) into a slot's input; mirror it if the input is larger.

        Args:
            tile: the pixels.
            target: the slot's input.
            index: position in the batch.
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
        """Return the top left (height, width, C) of output `index` of a batch as `dtype`."""
        if has_blocks(output):
            return joined(self.blocks(output, height, width, index))
        result: Array = self._as_hwc(output[index])[:height, :width]
        kind = np.dtype(dtype)
        if not self.is_float:
            return result
        white = WHITE[kind.name]
        if kind == np.float32:
            return result * np.float32(white / self.white)
        levels = np.clip(result * np.float32(white / self.white), 0, white)
        return np.rint(levels).astype(kind)

    def blocks(self, output: npt.NDArray[Any], height: int, width: int, index: int = 0) -> Array:
        """Return the top left (height, width) px of output `index`, which has blocks, as blocks."""
        blocks: Array = output[index]
        scale = blocks.shape[1]
        return blocks[: height // scale, :, : width // scale]

    def _as_hwc(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return picture.transpose(1, 2, 0) if self.channels_first else picture
