"""High dynamic range: encode floats outside 0..1 for networks that never saw such values."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from srsdk.errors import PictureError
from srsdk.image.arrays import Array
from srsdk.image.pixels import Pixels

log = logging.getLogger("srsdk")

GAMMA = 2.2
"""HDR pictures are linear in light; networks are trained on encoded ones. Unencoded, a scene that
is dark beside its highlights falls where their errors are largest
(tests/srsdk/image/test_hdr.py)."""


def into_unit(pixels: Pixels) -> tuple[Pixels, Callable[[Pixels], Pixels]]:
    """Encode floats outside 0..1 into that range, with a warning; nothing is clipped.

    Returns:
        The picture for the model, and a function that decodes its result. Other pictures are
        returned unchanged.

    Raises:
        PictureError: NaN or infinity.
    """
    rgb = pixels.rgb
    if rgb.dtype != np.float32:
        return pixels, lambda result: result
    low, high = float(rgb.min()), float(rgb.max())
    alphas = () if pixels.alpha is None else (pixels.alpha.min(), pixels.alpha.max())
    if not np.isfinite([low, high, *alphas]).all():
        raise PictureError("got floats that are not finite (NaN or infinity)")
    alpha = None if pixels.alpha is None else pixels.alpha.clip(0, 1)
    if low >= 0 and high <= 1:
        return replace(pixels, alpha=alpha), lambda result: result
    log.warning("floats from %g to %g: encoded into 0..1 for the model, then decoded", low, high)
    encoded = _power(rgb, 1 / GAMMA)
    start = np.float32(min(0, encoded.min()))
    span = np.float32(encoded.max() - start)

    def restore(result: Pixels) -> Pixels:
        return replace(result, rgb=_power(result.rgb * span + start, GAMMA))

    return replace(pixels, rgb=(encoded - start) / span, alpha=alpha), restore


def _power(values: Array, exponent: float) -> Array:
    return np.sign(values) * np.abs(values) ** np.float32(exponent)
