"""Types of pixel arrays, and the value of white in each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
"""8-bit pixels."""
Array = npt.NDArray[Any]
"""Pixels of any depth: uint8 or uint16 (full range), or float32 (0..1)."""

WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
"""The value of white in pictures of each dtype."""


def levels_of(picture: Array) -> Picture:
    """Return a picture of any depth as uint8, without a copy if it is uint8 already."""
    if picture.dtype == np.uint8:
        return picture
    levels = picture * np.float32(WHITE["uint8"] / WHITE[picture.dtype.name])
    return np.asarray(np.rint(np.clip(levels, 0, 255)), np.uint8)
