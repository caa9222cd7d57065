"""Results that cannot be right: a few tiles of each picture are held against bicubic.

A wrong engine is silent: float16 that overflowed gives black or noise, a miscompiled layer another
colour. None of it raises an error in any library.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from srsdk.errors import HealthError
from srsdk.manifest import Manifest
from srsdk.tiles import Picture, Tile

EVERY_TILES = 64
"""The first tile of a picture is looked at, and then one in so many."""
WINDOW_PX = 64
"""Side of the part of a tile that is looked at, in source pixels."""
BLOCK_PX = 16
"""The part is compared by the means of blocks of at least so many source pixels a side."""
MAX_DRIFT = 40.0
"""Levels of 255 by which the mean of a block may differ from bicubic's. The shipped models stay
below 3 on photographs (Set5, Set14) and below 20 on checkerboards of one to three pixels; swapped
channels, a lost range or a shifted tile are beyond 40 on nearly every photograph."""
DARK = 8.0
"""Mean level below which a result that is all zero may be right."""


class Guard:
    """Looks at some tiles of each picture.

    Args:
        manifest: names what it speaks of.
        where: backend and device, for the message.
    """

    def __init__(self, manifest: Manifest, where: str) -> None:
        self._manifest, self._where = manifest, where

    def wants(self, index: int) -> bool:
        """Say whether the tile of this number is looked at."""
        return index % EVERY_TILES == 0

    def check(self, tile: Tile, source: Picture, result: Picture) -> None:
        """Hold a tile's result against bicubic.

        Args:
            tile: where it is.
            source: (h, w, C) uint8, its pixels.
            result: (h * scale, w * scale, C) uint8.

        Raises:
            HealthError: all zero where the source is not dark, or far from bicubic.
        """
        scale = self._manifest.scale
        small, large = _window(source, 1), _window(result, scale)
        if not large.any() and small.mean() > DARK:
            raise self._error(tile, "is all zero where the picture is not dark")
        drift = block_drift(small, large, scale)
        if drift > MAX_DRIFT:
            raise self._error(tile, f"is {drift:.0f} of 255 levels away from bicubic in the mean")

    def check_numbers(self, tile: Tile, output: npt.NDArray[Any]) -> None:
        """Look for what is no number in a float result, before it becomes uint8.

        Raises:
            HealthError: NaN or infinite.
        """
        if output.dtype.kind == "f" and not np.isfinite(output).all():
            count = int(np.count_nonzero(~np.isfinite(output)))
            raise self._error(tile, f"has {count:,} values that are no numbers")

    def _error(self, tile: Tile, what: str) -> HealthError:
        m, rows, columns = self._manifest, tile.rows, tile.columns
        return HealthError(
            f"{m.name} ({m.precision}, {self._where}): the tile at rows {rows.start}-{rows.stop}, "
            f"columns {columns.start}-{columns.stop} {what}; use the model's fp32 file, or "
            "Upscaler(..., health=False) to take it as it is"
        )


def _window(picture: Picture, scale: int) -> Picture:
    """Return the middle, of the same place at every scale."""
    height, width = picture.shape[0] // scale, picture.shape[1] // scale
    top, left = max(0, (height - WINDOW_PX) // 2), max(0, (width - WINDOW_PX) // 2)
    bottom, right = top + min(height, WINDOW_PX), left + min(width, WINDOW_PX)
    return picture[top * scale : bottom * scale, left * scale : right * scale]


def block_drift(source: Picture, result: Picture, scale: int) -> float:
    """Return the largest difference of a block's mean between a result and bicubic, in levels.

    Args:
        source: (h, w, C) uint8.
        result: (h * scale, w * scale, C) uint8.
        scale: of the model.
    """
    height, width = source.shape[:2]
    blocks = (max(1, width // BLOCK_PX), max(1, height // BLOCK_PX))
    bicubic = _image(source).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    expected, got = (
        np.asarray(image.resize(blocks, Image.Resampling.BOX), np.float32)
        for image in (bicubic, _image(result))
    )
    return float(np.abs(got - expected).max())


def _image(picture: Picture) -> Image.Image:
    return Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0])
