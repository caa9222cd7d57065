"""HDR floats: nothing is clipped, and dark parts are upscaled well."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import srsdk
from tests.conftest import make_picture

Floats = npt.NDArray[np.float32]


def linear(encoded: npt.NDArray[np.uint8]) -> Floats:
    """Convert sRGB values to linear light (IEC 61966-2-1)."""
    x = encoded / 255
    light: Floats = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


def reduced(plane: npt.NDArray[Any], height: int, width: int, kind: Image.Resampling) -> Floats:
    """Resize (H, W, 3) floats with Pillow."""
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(plane[..., c])).resize((width, height), kind)
        )
        for c in range(3)
    ]
    return np.dstack(planes)


def test_dark_parts_beside_a_highlight_are_upscaled() -> None:
    """A scene at a hundredth of its brightest point is closer to the truth than bicubic.

    Without encoding, the same network is worse than bicubic there.
    """
    y, x = np.mgrid[0:256, 0:256]
    rings = np.sin(np.hypot(y - 100, x - 140) / 6) > 0
    high = Image.fromarray((rings * 200 + 30).astype(np.uint8)).resize((128, 128)).convert("RGB")
    truth = linear(np.asarray(high)) / 100
    low = reduced(truth, 64, 64, Image.Resampling.BICUBIC).clip(0, None)
    scene = low.copy()
    scene[0, 0] = 1.7
    with srsdk.Upscaler("gan_x2") as up:
        ours = up(scene)
        plain = up(low)
    bicubic = reduced(low, 128, 128, Image.Resampling.BICUBIC)

    def error(result: Floats) -> float:
        seen = [np.power(np.clip(v * 100, 0, 1), 1 / 2.2) for v in (result, truth)]
        return float(np.mean((seen[0] - seen[1])[16:-4, 16:-4] ** 2))

    assert error(ours) < 0.9 * error(bicubic)
    assert error(ours) < error(plain)


@pytest.mark.parametrize(("low", "high"), [(0.0, 40.0), (-0.5, 1.0), (-3.0, 200.0)])
def test_the_range_is_kept_and_said(
    low: float, high: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Flat areas at both ends of the range keep their values, and the log reports the encoding."""
    picture = np.full((24, 48, 3), low, np.float32)
    picture[:, 24:] = high
    with caplog.at_level(logging.WARNING, "srsdk"), srsdk.Upscaler("gan_x2") as up:
        result = up(picture)
    assert f"floats from {low:g} to {high:g}" in caplog.text
    assert np.abs(result[20:28, 10:20] - low).max() < 0.03 * (high - low)
    assert np.abs(result[20:28, 76:86] - high).max() < 0.03 * (high - low)


def test_ordinary_floats_are_not_touched(caplog: pytest.LogCaptureFixture) -> None:
    """Floats within 0..1 are not encoded: the result equals that of 16 bits."""
    picture = make_picture(20, 20).astype(np.float32) / 255
    with srsdk.Upscaler("gan_x2") as up:
        deep = up(np.rint(picture * 65535).astype(np.uint16))
        assert np.abs(up(picture) * 65535 - deep).max() < 2
    assert not caplog.text
