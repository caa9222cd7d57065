"""Sheets of all models: the same regions of the same pictures, one column for each model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import srsdk
from benchmarks.publish.site.drawings import Picture

LABEL_PX = 24
GAP_PX = 4
SCALES = (1, 2, 4)


@dataclass(frozen=True)
class Row:
    """One region: its picture's input and truth, and where it lies."""

    title: str
    lr: Picture
    """(H, W, 3) uint8, what the models are given."""
    hr: Picture
    """(H * scale, W * scale, 3) uint8."""
    region: tuple[int, int, int]
    """Left, top and side in `hr`."""


def inputs(title: str, truth: Picture, region: tuple[int, int, int], scale: int) -> Iterator[Row]:
    """Yield the rows of a picture: reduced by the scale; at 1 with noise, and as JPEG."""
    from training.data import corruption
    from training.data.resize import imresize

    if scale > 1:
        yield Row(title, imresize(truth, 1 / scale), truth, region)
        return
    noisy = corruption.add_noise(truth, corruption.TEST_SIGMA, np.random.default_rng(0))
    yield Row(f"{title}, sigma {corruption.TEST_SIGMA:.0f}", noisy, truth, region)
    quality = corruption.TEST_QUALITY
    yield Row(f"{title}, JPEG {quality}", corruption.jpeg(truth, quality), truth, region)


def write(pictures: Mapping[str, tuple[Picture, tuple[int, int, int]]], folder: Path) -> list[Path]:
    """Write `x1.png`, `x2.png` and `x4.png`: all shipped models of that scale.

    Args:
        pictures: truth, (H, W, 3) uint8 with sides that are multiples of 4, and the left edge, top
            edge and side of the region that is shown, by title.
        folder: created if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for scale in SCALES:
        rows = [
            row for title, each in pictures.items() for row in inputs(title, *each, scale=scale)
        ]
        written.append(folder / f"x{scale}.png")
        _sheet(rows, _methods(scale)).save(written[-1])
    return written


def _methods(scale: int) -> dict[str, Callable[[Picture], Picture]]:
    """Return what fills the columns between input and truth."""
    from training.data.resize import imresize

    names = [model.name for model in srsdk.list_models() if model.scale == scale]
    opened: dict[str, Callable[[Picture], Picture]] = {}
    if scale > 1:
        opened["bicubic"] = lambda lr: imresize(lr, scale)
    else:
        opened["input"] = lambda lr: lr
    for name in names:
        opened[name] = srsdk.Restorer(name) if scale == 1 else srsdk.Upscaler(name)
    return opened


def _sheet(rows: list[Row], methods: Mapping[str, Callable[[Picture], Picture]]) -> Image.Image:
    side = max(row.region[2] for row in rows)
    width, height = side + GAP_PX, side + LABEL_PX + GAP_PX
    sheet = Image.new("RGB", (width * (len(methods) + 1), height * len(rows)), "white")
    for down, row in enumerate(rows):
        for across, (label, panel) in enumerate(_panels(row, methods)):
            corner = (across * width, down * height)
            enlarged = panel.repeat(side // row.region[2], 0).repeat(side // row.region[2], 1)
            sheet.paste(Image.fromarray(enlarged), (corner[0], corner[1] + LABEL_PX))
            ImageDraw.Draw(sheet).text(
                (corner[0] + 2, corner[1] + 4), label, "black", ImageFont.load_default(14)
            )
    return sheet


def _panels(
    row: Row, methods: Mapping[str, Callable[[Picture], Picture]]
) -> Iterator[tuple[str, Picture]]:
    from training.evaluation.metrics import psnr_y

    left, top, side = row.region
    where = np.s_[top : top + side, left : left + side]
    for name, method in methods.items():
        panel = method(row.lr)[where]
        db = psnr_y(panel, row.hr[where], border_px=4)
        title = f"{row.title}: " if name in ("bicubic", "input") else ""
        yield f"{title}{name} {db:.2f} dB", panel
    yield "truth", row.hr[where]
