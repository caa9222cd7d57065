"""Folder and checks that the fuzz targets share."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from srsdk.image.arrays import Array
from srsdk.scheduling.context import Call
from srsdk.system.text import plain
from srsdk.upscaling.steps import Step

_OWNED = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
FOLDER = Path(_OWNED.name)


def stored(name: str, data: bytes) -> Path:
    """Write the input into a file, and return its path."""
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def check_message(text: str) -> None:
    """Check that a message can be printed as UTF-8 and has no escape sequence."""
    shown = "".join(map(plain, text.splitlines()))
    assert shown.isprintable()
    shown.encode("utf-8")


def _nearest(rgb: Array, call: Call) -> Array:
    call.report(1, 1)
    return np.repeat(np.repeat(rgb, 2, axis=0), 2, axis=1)


NEAREST = Step("nearest", 2, 1, 1, _nearest, lambda height, width: 1)
"""Stands in for a model: the targets fuzz how files are read, prepared and written."""
