"""Transparency: no fringes, and no needless runs of the network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import srsdk
from srsdk.image.alpha import FILL_REACH_PX, filled, without_ringing
from srsdk.options import AlphaBy
from tests.fakes.engine import FakeEngine, fake_manifest
from tests.srsdk.test_upscaler import open_fake

COLOR = (210, 90, 60)
BOTH: tuple[AlphaBy, ...] = ("model", "lanczos")


@pytest.fixture(scope="module")
def up() -> srsdk.Upscaler:
    """The x4 model."""
    return srsdk.Upscaler("gan_x4")


def cut_out(hidden: tuple[int, int, int], side: int = 40) -> Image.Image:
    """Return a disc of one color with a soft edge; `hidden` is the color under transparency."""
    y, x = np.mgrid[0:side, 0:side]
    alpha = np.clip((side / 3 - np.hypot(y - side / 2, x - side / 2)) * 255, 0, 255)
    rgb = np.where((alpha > 0)[..., None], COLOR, hidden).astype(np.uint8)
    image = Image.fromarray(rgb)
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return image


def over(image: Image.Image, ground: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """Composite an image on a background color."""
    array = np.asarray(image).astype(float)
    alpha = array[..., 3:] / 255
    return np.asarray(alpha * array[..., :3] + (1 - alpha) * np.array(ground))


@pytest.mark.parametrize("by", ["model", "lanczos"])
@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 255, 255), (0, 255, 0)])
@pytest.mark.parametrize("ground", [(0, 0, 0), (255, 255, 255), (40, 160, 220)])
def test_no_fringes(
    up: srsdk.Upscaler, hidden: tuple[int, int, int], ground: tuple[int, int, int], by: AlphaBy
) -> None:
    """On any background each channel lies between the disc's and the background's color."""
    result = up(cut_out(hidden), options=srsdk.PictureOptions(alpha=by))
    seen = over(result, ground)
    low, high = np.minimum(COLOR, ground), np.maximum(COLOR, ground)
    assert (seen >= low - 3).all()
    assert (seen <= high + 3).all()


def test_what_is_hidden_does_not_matter(up: srsdk.Upscaler) -> None:
    """Black and white under full transparency give the same result."""
    black, white = (np.asarray(up(cut_out(hidden))) for hidden in ((0, 0, 0), (255, 255, 255)))
    visible = black[..., 3] > 0
    np.testing.assert_array_equal(black[..., 3], white[..., 3])
    np.testing.assert_array_equal(black[visible], white[visible])


def test_the_model_is_sharper_than_lanczos(up: srsdk.Upscaler) -> None:
    """Fewer pixels are half transparent."""
    both = [
        np.asarray(up(cut_out((0, 0, 0)), options=srsdk.PictureOptions(alpha=by)))[..., 3]
        for by in BOTH
    ]
    soft = [np.mean((alpha > 25) & (alpha < 230)) for alpha in both]
    assert soft[0] < 0.8 * soft[1]


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_constant_alpha_is_not_computed(monkeypatch: pytest.MonkeyPatch, value: int) -> None:
    """The engine gets only the colors; the alpha stays exactly constant."""
    engine = FakeEngine()
    up = open_fake(monkeypatch, engine, fake_manifest())
    image = Image.new("RGBA", (20, 20), (10, 20, 30, value))
    result = np.asarray(up(image))
    assert (result[..., 3] == value).all()
    assert engine.submitted == 1


def test_lanczos_costs_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanczos needs one run, for the colors; the model needs two."""
    choices: tuple[tuple[AlphaBy, int], ...] = (("lanczos", 1), ("model", 2))
    for by, runs in choices:
        engine = FakeEngine()
        up = open_fake(monkeypatch, engine, fake_manifest())
        seen: list[tuple[int, int]] = []
        up(
            cut_out((0, 0, 0)),
            options=srsdk.PictureOptions(alpha=by),
            progress=lambda *at, seen=seen: seen.append(at),
        )
        assert engine.submitted == runs
        assert seen == [(index + 1, runs) for index in range(runs)]


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), height=st.integers(1, 40), width=st.integers(1, 40))
def test_filling_keeps_the_visible_and_stays_in_range(seed: int, height: int, width: int) -> None:
    """Visible pixels are untouched; filled ones lie within the visible ones' range."""
    random = np.random.default_rng(seed)
    color = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    alpha = (random.random((height, width)) < 0.1) * random.integers(1, 256, (height, width))
    result = filled(color, alpha.astype(np.uint8))
    visible = alpha > 0
    np.testing.assert_array_equal(result[visible], color[visible])
    if visible.any():
        y, x = np.nonzero(visible)
        grid = np.mgrid[0:height, 0:width]
        far = np.maximum(*(np.abs(g[..., None] - p) for g, p in zip(grid, (y, x), strict=True)))
        reached = far.min(-1) <= FILL_REACH_PX
        assert (result[reached] >= color[visible].min(0)).all()
        assert (result[reached] <= color[visible].max(0)).all()
        np.testing.assert_array_equal(result[~reached], color[~reached])


def test_filling_is_local() -> None:
    """A window with a halo of that size is filled like the whole picture, so streaming works."""
    random = np.random.default_rng(1)
    color = random.integers(0, 256, (120, 30, 3), dtype=np.uint8)
    alpha = (random.random((120, 30)) < 0.004).astype(np.uint8) * 200
    whole = filled(color, alpha)
    part = filled(color[10:100], alpha[10:100])
    inner = slice(FILL_REACH_PX, 90 - FILL_REACH_PX)
    np.testing.assert_array_equal(part[inner], whole[10:100][inner])


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_ringing_is_cut_off(scale: int) -> None:
    """Flat parts become exact, also next to an edge; values at the edge are unchanged."""
    alpha = np.zeros((6, 8), np.uint8)
    alpha[:, 4:] = 255
    large = alpha.repeat(scale, 0).repeat(scale, 1)
    disturbed = np.where(large == 255, 240, 9).astype(np.uint8)
    result = without_ringing(disturbed, alpha)
    np.testing.assert_array_equal(result[:, : 3 * scale], 0)
    np.testing.assert_array_equal(result[:, 5 * scale :], 255)
    edge = slice(4 * scale - scale // 2, 4 * scale + scale // 2)
    np.testing.assert_array_equal(result[:, edge], disturbed[:, edge])
