"""A side-by-side picture: people look rather than read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from srsdk import pictures
from srsdk.pixels import to_depth

GAP_PX = 8


def write(source: Path, result: Path, target: Path) -> None:
    """Write bicubic (left) beside the result (right), at the result's size.

    Raises:
        PictureError: the source or the result cannot be read.
        OutputError: the target cannot be written.
    """
    small, large = (
        Image.fromarray(np.ascontiguousarray(to_depth(pictures.read(path), np.uint8).rgb))
        for path in (source, result)
    )
    pictures.write(side_by_side(small, large), target, {})


def side_by_side(small: Image.Image, large: Image.Image) -> Image.Image:
    """Return bicubic of `small` and `large` next to each other, both at `large`'s size."""
    bicubic = small.resize(large.size, Image.Resampling.BICUBIC)
    sheet = ImageOps.expand(bicubic, (0, 0, large.width + GAP_PX, 0), fill="white")
    sheet.paste(large, (large.width + GAP_PX, 0))
    return sheet
