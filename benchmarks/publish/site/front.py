"""The picture on the README and the start page: the sample, enlarged by bicubic and by srsdk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import srsdk
from benchmarks.machine import ROOT

SAMPLE = ROOT / "samples" / "astronaut.png"
MODEL = "gan_x4"
LEFT, TOP, SIDE = 230, 30, 430
"""The region that is shown, px of the result."""
BAND_PX = 34


def write(path: Path) -> None:
    """Write both panels side by side, each under its name, as JPEG."""
    with Image.open(SAMPLE) as image:
        small = image.convert("RGB")
    with srsdk.Upscaler(MODEL) as up:
        large = Image.fromarray(up(np.asarray(small)))
    bicubic = small.resize(large.size, Image.Resampling.BICUBIC)
    sheet = Image.new("RGB", (2 * SIDE + 6, SIDE + BAND_PX), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (name, picture) in enumerate((("bicubic", bicubic), (f"srsdk, {MODEL}", large))):
        left = index * (SIDE + 6)
        sheet.paste(picture.crop((LEFT, TOP, LEFT + SIDE, TOP + SIDE)), (left, BAND_PX))
        pen.text((left + 4, 5), name, fill=(40, 40, 40), font=ImageFont.load_default(20))
    sheet.save(path, quality=92, subsampling="4:4:4")
