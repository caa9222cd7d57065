"""Output checks: detect wrong results by comparing a few tiles of each picture with bicubic.

A faulty engine fails silently: a float16 overflow gives black or noise, a miscompiled layer gives
wrong colors, and no library raises an error.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from srsdk.errors import HealthError
from srsdk.image.arrays import Picture
from srsdk.inference.blocks import joined
from srsdk.inference.tiling import Tile
from srsdk.manifest import Manifest

EVERY_TILES = 64
"""The first tile of a picture is checked, and then one of this many."""
WINDOW_PX = 64
"""Side of the checked window of a tile, in source pixels."""
BLOCK_PX = 16
"""Minimum side of the blocks whose means are compared, in source pixels."""
MAX_DRIFT = 40.0
"""Levels of 255 by which the mean of a block may differ from bicubic's. The shipped models stay
below 3 on photographs (Set5, Set14) and below 20 on checkerboards of one to three pixels; swapped
channels, a wrong value range or a shifted tile exceed 40 on nearly every photograph."""
DARK = 8.0
"""Mean level below which an all-zero result may be right."""


class Guard:
    """Checks some tiles of each picture.

    Args:
        manifest: the model's manifest, for scale and error messages.
        where: backend and device, for error messages.
    """

    def __init__(self, manifest: Manifest, where: str) -> None:
        self._manifest, self._where = manifest, where

    def wants(self, index: int) -> bool:
        """Return whether the tile with this index is checked."""
        return index % EVERY_TILES == 0

    def check(self, tile: Tile, source: Picture, result: Picture) -> None:
        """Compare a tile's result with bicubic.

        Args:
            tile: its position.
            source: its source pixels, (h, w, C) uint8.
            result: (h * scale, w * scale, C) uint8, or blocks (h, scale, w, scale, C) of it.

        Raises:
            HealthError: all zero although the source is not dark, or far from bicubic.
        """
        scale = self._manifest.scale
        # colors under transparent pixels mean nothing, so alpha is not compared
        source, result = source[..., :3], result[..., :3]
        small = _window(source, 1)
        large = _window(result, scale) if result.ndim == 3 else joined(_window(result, 1))
        if not large.any() and small.mean() > DARK:
            raise self._error(tile, "is all zero although the picture is not dark")
        drift = block_drift(small, large, scale)
        if drift > MAX_DRIFT:
            raise self._error(tile, f"is {drift:.0f} of 255 levels away from bicubic on average")

    def check_numbers(self, tile: Tile, output: npt.NDArray[Any]) -> None:
        """Check a float result for NaN and infinite values, before conversion to uint8.

        Raises:
            HealthError: a value is NaN or infinite.
        """
        if output.dtype.kind == "f" and not np.isfinite(output).all():
            count = int(np.count_nonzero(~np.isfinite(output)))
            raise self._error(tile, f"has {count:,} NaN or infinite values")

    def _error(self, tile: Tile, what: str) -> HealthError:
        m, rows, columns = self._manifest, tile.rows, tile.columns
        return HealthError(
            f"{m.name} ({m.precision}, {self._where}): the tile at rows {rows.start}-{rows.stop}, "
            f"columns {columns.start}-{columns.stop} {what}; use the model's fp32 file, or "
            "Upscaler(..., health=False) to skip this check"
        )


def _window(picture: Picture, scale: int) -> Picture:
    """Return the central window, which shows the same area at every scale; of blocks, at 1."""
    where = [slice(None)] * picture.ndim
    for axis in (0, 1 if picture.ndim == 3 else 2):
        length = picture.shape[axis] // scale
        start = max(0, (length - WINDOW_PX) // 2)
        where[axis] = slice(start * scale, (start + min(length, WINDOW_PX)) * scale)
    return picture[tuple(where)]


def block_drift(source: Picture, result: Picture, scale: int) -> float:
    """Return the largest difference between block means of a result and of bicubic, in levels.

    Args:
        source: (h, w, C) uint8.
        result: (h * scale, w * scale, C) uint8.
        scale: scale of the model.
    """
    height, width, channels = source.shape
    blocks = (max(1, height // BLOCK_PX), max(1, width // BLOCK_PX))
    rows = _bicubic_means(height, scale, blocks[0]) @ source.reshape(height, -1)
    expected = _bicubic_means(width, scale, blocks[1]) @ rows.reshape(-1, width, channels)
    means = _image(result).resize(blocks[::-1], Image.Resampling.BOX)
    got = np.asarray(means, np.float32).reshape(expected.shape)
    return float(np.abs(got - expected).max())


@functools.lru_cache(maxsize=64)
def _bicubic_means(length: int, scale: int, blocks: int) -> npt.NDArray[np.float32]:
    """Return the matrix (blocks, length) from pixels to the means of blocks enlarged bicubically.

    To enlarge the window itself took 0.6 ms of a picture's 50 (gan_x4.int8, 640x360).
    """
    enlarged = Image.fromarray(np.eye(length, dtype=np.float32)).resize(
        (length * scale, length), Image.Resampling.BICUBIC
    )
    means = enlarged.resize((blocks, length), Image.Resampling.BOX)
    return np.asarray(means, np.float32).T


def _image(picture: Picture) -> Image.Image:
    return Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0])
