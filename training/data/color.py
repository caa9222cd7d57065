"""Luma of RGB, and networks for luma on color pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from torch import Tensor

from training.data.resize import Picture

WEIGHTS = (0.299, 0.587, 0.114)
"""ITU-R BT.601, full range, as in JPEG (JFIF)."""


def luma(rgb: Tensor) -> Tensor:
    """Return (N, 1, H, W) of (N, 3, H, W), 0..1."""
    red, green, blue = rgb.unbind(1)
    weighted = WEIGHTS[0] * red + WEIGHTS[1] * green + WEIGHTS[2] * blue
    return weighted[:, None]


def in_channels(picture: Picture, channels: int) -> Picture:
    """Return a picture as it is, or for one channel the luma, (H, W, 1), of (H, W, 3)."""
    if picture.shape[2] == channels:
        return picture
    return np.array(Image.fromarray(np.ascontiguousarray(picture)).convert("L"))[:, :, None]


def with_luma(enlarge: Callable[[Picture], Picture], rgb: Picture) -> Picture:
    """Enlarge (H, W, 3): luma with `enlarge`, (H, W, 1) to its result, color bicubically.

    The runtime does the same (`srsdk.inference.luma`).
    """
    bands = Image.fromarray(np.ascontiguousarray(rgb)).convert("YCbCr").split()
    large = Image.fromarray(enlarge(np.asarray(bands[0])[:, :, None])[:, :, 0])
    color = [band.resize(large.size, Image.Resampling.BICUBIC) for band in bands[1:]]
    return np.array(Image.merge("YCbCr", [large, *color]).convert("RGB"))
