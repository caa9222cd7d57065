"""Pages of cut-outs: drawings with transparency, laid over one another on paper.

Drawings by people, such as clip art in the public domain, have much empty space around them. A page
that is full of them has an edge in nearly every patch.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from training.data.pictures import DataError, find_pictures
from training.data.resize import Picture

MIN_PX = 128
"""Smaller cut-outs are icons: drawn pixel by pixel, or blurred."""
MAX_PIXELS = 30_000_000
"""Larger ones take seconds each."""
REDUCTION = 0.8
"""Cut-outs are reduced at least this much: their own pixels may be badly antialiased."""
SIZES = (0.1, 0.7)
"""Long side of a cut-out, relative to the page."""


def find_cutouts(folder: Path) -> list[Path]:
    """Return the files below `folder` that have transparency and a useful size, sorted.

    Raises:
        DataError: no such folder, or none in it.
    """
    found = [path for path in find_pictures(folder) if _is_cutout(path)]
    if not found:
        raise DataError(
            f"{folder}: no picture with transparency and sides of {MIN_PX} px or more in it"
        )
    return found


def collage(side_px: int, cutouts: Sequence[Path], random: np.random.Generator) -> Picture:
    """Return a page, (side_px, side_px, 3) uint8, of 12 to 30 of the cut-outs."""
    page = _paper(side_px, random)
    for _ in range(random.integers(12, 31)):
        piece = _piece(cutouts[int(random.integers(len(cutouts)))], side_px, random)
        spread = np.array([side_px, side_px]) - np.array(piece.size) / 2
        left, top = (random.uniform(-np.array(piece.size) / 2, spread)).astype(int).tolist()
        page.paste(piece, (left, top), piece.getchannel("A"))
    return np.asarray(ImageOps.grayscale(page).convert("RGB") if random.random() < 0.2 else page)


def _is_cutout(path: Path) -> bool:
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures, which are not wanted here
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                small = min(image.size) < MIN_PX or image.width * image.height > MAX_PIXELS
                return not small and image.has_transparency_data
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return False


def _paper(side_px: int, random: np.random.Generator) -> Image.Image:
    """Return a white, colored or graded background."""
    first, second = (tuple(random.integers(0, 256, 3).tolist()) for _ in range(2))
    kind = random.random()
    if kind < 0.5:
        first = (255, 255, 255)
    flat = Image.new("RGB", (side_px, side_px), first)
    if kind < 0.8:
        return flat
    ramp = Image.linear_gradient("L").resize((side_px, side_px))
    return Image.composite(flat, Image.new("RGB", flat.size, second), ramp)


def _piece(path: Path, side_px: int, random: np.random.Generator) -> Image.Image:
    """Return one cut-out as it is laid down, RGBA."""
    with Image.open(path) as image:
        piece = image.convert("RGBA").convert("RGBa")
    wanted = side_px * float(random.uniform(*SIZES)) / max(piece.size)
    factor = min(wanted, REDUCTION)
    size = [max(1, round(side * factor)) for side in piece.size]
    # in RGBa, colors are weighted by their opacity: what is transparent does not bleed
    piece = piece.resize((size[0], size[1]), Image.Resampling.LANCZOS).convert("RGBA")
    if random.random() < 0.5:
        piece = ImageOps.mirror(piece)
    return piece
