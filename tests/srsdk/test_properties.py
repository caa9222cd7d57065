"""Property tests: invariants that hold for every picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import srsdk
from tests.conftest import make_picture

DEPTHS = st.sampled_from(["uint8", "uint16", "float32"])


@pytest.fixture(scope="module")
def up() -> srsdk.Upscaler:
    """The x2 model."""
    return srsdk.Upscaler("gan_x2")


def white(dtype: str) -> float:
    """Return the value of white in a dtype."""
    return {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]


@settings(max_examples=40)
@given(
    color=st.tuples(*[st.integers(0, 255)] * 3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    dtype=DEPTHS,
)
def test_a_flat_color_stays_flat(
    up: srsdk.Upscaler, color: tuple[int, int, int], height: int, width: int, dtype: str
) -> None:
    """Away from the border, the result has the same color within 2 of 255 levels."""
    picture = np.empty((height, width, 3), dtype)
    picture[:] = np.array(color) / 255 * white(dtype)
    result = up(picture).astype(float) / white(dtype) * 255
    assert np.abs(result - color)[24:-24, 24:-24].max(initial=0) <= 2


@settings(max_examples=25)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 99),
    mode=st.sampled_from(["RGBA", "LA"]),
)
def test_an_opaque_picture_stays_opaque(
    up: srsdk.Upscaler, height: int, width: int, seed: int, mode: str
) -> None:
    """Its alpha is 255 throughout, at any size."""
    image = Image.fromarray(make_picture(height, width, seed)).convert(mode)
    for options in (None, srsdk.PictureOptions(scale=1.7), srsdk.PictureOptions(width=33)):
        if (options or srsdk.PictureOptions()).width and width < 3:
            continue
        result = up(image, options=options)
        assert np.asarray(result.getchannel("A")).min() == 255


@settings(max_examples=40)
@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    seed=st.integers(0, 99),
    dtype=DEPTHS,
    axes=st.sampled_from([(0,), (1,), (0, 1)]),
)
def test_a_mirrored_picture_gives_the_mirrored_result(
    up: srsdk.Upscaler, height: int, width: int, seed: int, dtype: str, axes: tuple[int, ...]
) -> None:
    """Nothing is shifted: on a smooth picture the results agree within 2 of 255 levels."""
    y, x = np.mgrid[0:height, 0:width]
    phase = np.random.default_rng(seed).random(6) * 6
    planes = [np.sin(x / 9 + phase[c]) + np.sin(y / 7 + phase[c + 3]) for c in range(3)]
    picture = ((np.stack(planes, -1) + 2) / 4 * white(dtype)).astype(dtype)
    there = up(np.flip(picture, axes))
    back = np.flip(up(picture), axes)
    difference = np.abs(there.astype(float) - back) / white(dtype) * 255
    assert difference[12:-12, 12:-12].max(initial=0) <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "F", "P", "1", "CMYK"])
def test_the_smallest_pictures(up: srsdk.Upscaler, size: tuple[int, int], mode: str) -> None:
    """A single pixel, and lines of pixels, of every mode."""
    result = up(Image.new(mode, size))
    assert result.size == (2 * size[0], 2 * size[1])
