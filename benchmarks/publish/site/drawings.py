"""Pictures drawn for the gallery's limits: text, moire, a repeated texture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Picture = npt.NDArray[np.uint8]

SIDE_PX = 320
TEXT = (
    ("Terms and conditions", 26),
    ("1. The quick brown fox jumps over", 17),
    ("the lazy dog, 7 times in 1969.", 17),
    ("2. Pack my box with five dozen jugs;", 17),
    ("total: 1,348.60 EUR (VAT 19 %)", 17),
    ("3. Sphinx of black quartz, judge my vow.", 15),
    ("Ref. 8B3-0O1l-55S, page 6 of 9", 13),
    ("All rights reserved by nobody at all.", 11),
)
"""Lines and their font size, px."""


def text() -> Picture:
    """Draw a printed page in Pillow's own font; (320, 320, 3) uint8."""
    page = Image.new("RGB", (SIDE_PX, SIDE_PX), (250, 248, 242))
    pen = ImageDraw.Draw(page)
    top = 16
    for line, size in TEXT:
        pen.text((14, top), line, fill=(28, 28, 34), font=ImageFont.load_default(size))
        top += round(size * 1.9)
    return np.asarray(page)


def moire() -> Picture:
    """Draw rings whose frequency grows from the center up to 0.25 cycles per px."""
    axis = np.arange(SIDE_PX) - SIDE_PX / 2
    squared = axis[:, None] ** 2 + axis[None, :] ** 2
    # the phase's derivative, k * r, is the local frequency in radians per px
    wave = np.cos(squared * (np.pi * 0.5 / SIDE_PX))
    gray = np.rint(127.5 + 110 * wave).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def weave() -> Picture:
    """Draw a fabric: a two-over-two twill of threads that are 5 px wide, lit from one side."""
    row, column = np.mgrid[:SIDE_PX, :SIDE_PX]
    thread_px = 5
    over = (row // thread_px - column // thread_px) % 4 < 2
    across = np.where(over, row % thread_px, column % thread_px)
    light = np.sin((across + 0.5) / thread_px * np.pi)
    warp, weft = np.array([176, 132, 84]), np.array([70, 92, 120])
    cloth = np.where(over[..., None], warp, weft) * (0.45 + 0.55 * light[..., None])
    picture: Picture = np.rint(cloth).astype(np.uint8)
    return picture
