"""Results of the Python code that the JavaScript module repeats, for its own tests.

`python -m tests.export.web.values --write` renews `export/web/tests/python.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srsdk.formats.probe import Probe, picture
from srsdk.image.alpha import filled, without_ringing
from srsdk.inference.tiling import balanced_tile, spans
from tests.conftest import make_picture

FILE = Path(__file__).parents[3] / "export" / "web" / "tests" / "python.json"
SPANS = [(10, 20, 3, 1), (100, 40, 6, 1), (101, 40, 10, 1), (128, 48, 8, 8), (517, 512, 6, 1)]
TILES = [(180, 320, 6, 1 << 18, 1), (1080, 1920, 10, 1 << 18, 1), (700, 4000, 10, 1 << 14, 1)]
TILES += [(64, 9000, 16, 1 << 12, 8), (30, 30, 10, 100, 1)]
PADS = [(5, 12), (1, 4), (2, 9), (7, 7)]


def values() -> dict[str, Any]:
    """Return all of them as plain values."""
    return {
        "spans": [_spans(*case) for case in SPANS],
        "tiles": [[list(case), list(balanced_tile(*case))] for case in TILES],
        "mirrored": [_mirrored(*case) for case in PADS],
        "colors": _colors(),
        "resized": [_resized(scale) for scale in (1, 2, 3, 4)],
        "alpha": _alpha(),
        "probe": _probe(),
    }


def _spans(*case: int) -> list[Any]:
    return [list(case), [[s.start, s.stop, s.keep_start, s.keep_stop] for s in spans(*case)]]


def _mirrored(length: int, size: int) -> list[Any]:
    return [length, np.pad(np.arange(length), (0, size - length), mode="reflect").tolist()]


def _colors() -> dict[str, list[int]]:
    """Both conversions of the same 1,000 triples."""
    triples = np.random.default_rng(1).integers(0, 256, (1, 1000, 3)).astype(np.uint8)
    ycc = Image.merge("YCbCr", Image.fromarray(triples).split())
    return {
        "triples": triples.ravel().tolist(),
        "to_ycbcr": np.asarray(Image.fromarray(triples).convert("YCbCr")).ravel().tolist(),
        "to_rgb": np.asarray(ycc.convert("RGB")).ravel().tolist(),
    }


def _resized(scale: int) -> dict[str, Any]:
    plane = np.random.default_rng(2).integers(0, 256, (5, 7)).astype(np.uint8)
    large = Image.fromarray(plane).resize((7 * scale, 5 * scale), Image.Resampling.BICUBIC)
    return {
        "scale": scale,
        "plane": plane.ravel().tolist(),
        "width": 7,
        "large": np.asarray(large).ravel().tolist(),
    }


def _alpha() -> dict[str, Any]:
    color, large = make_picture(40, 52, 7), make_picture(80, 104, 8)[..., 0]
    y, x = np.mgrid[0:40, 0:52]
    alpha = np.clip(120 - 9 * np.hypot(y - 11, x - 13), 0, 255).astype(np.uint8)
    return {
        "height": 40,
        "width": 52,
        "rgba": np.dstack([color, alpha]).ravel().tolist(),
        "filled": filled(color, alpha).ravel().tolist(),
        "large": large.ravel().tolist(),
        "clamped": without_ringing(large, alpha).ravel().tolist(),
    }


def _probe() -> dict[str, Any]:
    drawn = picture(9, 11, 3)
    return {"picture": drawn.ravel().tolist(), "probe": Probe.of((9, 11), drawn, 50, 1).to_dict()}


def text() -> str:
    """Return the file's content."""
    return json.dumps(values(), separators=(",", ":")) + "\n"


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    FILE.write_text(text(), encoding="utf-8")
