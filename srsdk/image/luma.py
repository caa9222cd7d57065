"""Run one-channel networks on color pictures: they enlarge luma, where the eye sees detail."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from srsdk.image.arrays import WHITE, Array

# ITU-R BT.601, full range, as in JPEG (JFIF)
_TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)


def upscale(run: Callable[[Array], Array], rgb: Array) -> Array:
    """Enlarge (H, W, 3): luma with `run`, chroma with bicubic interpolation.

    Args:
        run: maps (H, W, 1) to (H * scale, W * scale, 1).
        rgb: uint8, uint16 or float32.
    """
    if rgb.dtype != np.uint8:
        return _deep(run, rgb)
    luma, *chroma = Image.fromarray(np.ascontiguousarray(rgb)).convert("YCbCr").split()
    large = Image.fromarray(run(np.asarray(luma)[:, :, None])[:, :, 0])
    planes = [large, *(plane.resize(large.size, Image.Resampling.BICUBIC) for plane in chroma)]
    return np.asarray(Image.merge("YCbCr", planes).convert("RGB"))


def _deep(run: Callable[[Array], Array], rgb: Array) -> Array:
    white = WHITE[rgb.dtype.name]
    planes = (rgb * np.float32(1 / white)) @ _TO_YCC.T
    luma = run(np.ascontiguousarray(planes[..., :1], np.float32))
    size = luma.shape[1::-1]
    chroma = [
        np.asarray(Image.fromarray(planes[..., i].copy()).resize(size, Image.Resampling.BICUBIC))
        for i in (1, 2)
    ]
    large = np.dstack([luma[..., 0], *chroma]) @ np.linalg.inv(_TO_YCC).T.astype(np.float32)
    levels = np.clip(large * white, 0, white)
    return (np.rint(levels) if rgb.dtype == np.uint16 else levels).astype(rgb.dtype)
