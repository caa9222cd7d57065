"""Output sizes and resizing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk import PictureOptions
from srsdk.image.resize import goal, resized
from tests.conftest import make_picture
from tests.fakes.engine import FakeEngine, fake_manifest
from tests.srsdk.test_upscaler import open_fake


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (180, 240)),
        ({"scale": 2.5}, (150, 200)),
        ({"scale": 8}, (480, 640)),
        ({"scale": 0.5}, (30, 40)),
        ({"width": 100}, (75, 100)),
        ({"height": 150}, (150, 200)),
        ({"width": 100, "height": 100}, (75, 100)),
        ({"width": 100, "height": 100, "fit": "cover"}, (100, 100)),
        ({"width": 100, "height": 100, "fit": "fill"}, (100, 100)),
        ({"width": 1}, (1, 1)),
    ],
)
def test_sizes(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], size: object) -> None:
    """An 80x60 picture with an x3 model: the size for each option."""
    up = open_fake(monkeypatch, FakeEngine(scale=3), fake_manifest(scale=3))
    result = up(make_picture(60, 80), options=PictureOptions(**options))
    assert result.shape[:2] == size


def test_cover_keeps_the_middle() -> None:
    """The excess is cropped equally on both sides."""
    target = goal(PictureOptions(width=50, height=100, fit="cover"), 10, 20, 4)
    assert (target.height, target.width) == (100, 200)
    assert target.crop == (0, 75, 100, 50)


def test_a_model_is_used_again_until_it_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """x8 with an x2 model takes three runs; a smaller picture takes none."""
    for scale, runs in ((8, 3), (2, 1), (2.1, 2), (1, 0), (0.3, 0)):
        engine = FakeEngine()
        up = open_fake(monkeypatch, engine, fake_manifest())
        up(make_picture(9, 9), options=PictureOptions(scale=scale))
        assert engine.submitted == runs


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_reducing_is_antialiased(dtype: type[np.generic]) -> None:
    """A checkerboard of single pixels becomes gray, not a pattern, at every depth."""
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    board = (np.indices((60, 60)).sum(0) % 2 * white).astype(dtype)
    small = resized(np.dstack([board] * 3), 13, 17) / white
    assert np.abs(small[2:-2, 2:-2] - 0.5).max() < 0.02


def test_alpha_and_gray_are_resized_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gray and alpha are resized to the same size."""
    up = open_fake(monkeypatch, FakeEngine(), fake_manifest())
    image = Image.fromarray(make_picture(20, 30)).convert("LA")
    result = up(image, options=PictureOptions(scale=1.3))
    assert (result.mode, result.size) == ("LA", (39, 26))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0}, "scale is 0, expected above 0 and up to 16"),
        ({"scale": 17}, "up to 16"),
        ({"scale": 2, "width": 9}, "cannot be combined with width or height"),
        ({"width": 0}, "width is 0"),
        ({"height": 1.5}, "height is 1.5"),
        ({"fit": "squeeze"}, "one of contain, cover, fill"),
        ({"alpha": "magic"}, "one of model, lanczos"),
        ({"quality": 101}, "expected 1 to 100"),
        ({"quality": "best"}, "one of keep, lossless, 1 to 100"),
        ({"subsampling": "4:1:1"}, "4:4:4, 4:2:2, 4:2:0, keep"),
        ({"max_memory_bytes": -1}, "max_memory_bytes is -1"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    """Invalid options raise when they are created, before any picture."""
    with pytest.raises(srsdk.UsageError, match=message):
        PictureOptions(**options)


def test_over_sixteen_times_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A width that needs more than x16 is rejected."""
    up = open_fake(monkeypatch, FakeEngine(), fake_manifest())
    with pytest.raises(srsdk.UsageError, match="20 times as large, at most 16"):
        up(make_picture(10, 10), options=PictureOptions(width=200))
