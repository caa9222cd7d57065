"""Engines that prepare each shape slowly see few of them, whatever the pictures' sizes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import srsdk
from srsdk.inference.planner import FEW_SIDES_PX, FEW_TILES_SHARE, Planner
from srsdk.inference.slot_pool import MAX_IDLE_SHAPES
from srsdk.inference.tiling import balanced_tile
from tests.conftest import make_picture
from tests.fakes.engine import FakeEngine, FakeSlot, fake_manifest
from tests.srsdk.test_upscaler import open_fake


class FewShapesEngine(FakeEngine):
    """Counts the shapes that it prepares, and has memory for inputs up to a size.

    Args:
        largest_px: pixels of the largest input that fits.
    """

    few_shapes = True

    def __init__(self, largest_px: int = 1 << 62) -> None:
        super().__init__()
        self.largest_px = largest_px
        self.shapes: list[tuple[int, ...]] = []

    def slot(self, input_shape: tuple[int, ...]) -> FakeSlot:
        """Make a slot."""
        self.shapes.append(input_shape)
        if np.prod(input_shape[:3]) > self.largest_px:
            raise srsdk.OutOfMemoryError(f"no memory for {input_shape}")
        return super().slot(input_shape)


def planner(
    *, radius_px: int = 10, multiple_px: int = 1, few: bool = True, **options: Any
) -> Planner:
    """Return a planner without a tile, unless `options` has one."""
    engine: Any = FewShapesEngine() if few else FakeEngine()
    manifest = fake_manifest(radius_px=radius_px, multiple_px=multiple_px)
    return Planner(engine, manifest, options.pop("tile", None), **options)


@pytest.mark.parametrize("multiple", [1, 8])
def test_pictures_of_all_sizes_share_few_shapes(
    monkeypatch: pytest.MonkeyPatch, multiple: int
) -> None:
    """200 sizes, few squares, whose slots are all kept; the results are exact."""
    engine = FewShapesEngine()
    up = open_fake(monkeypatch, engine, fake_manifest(radius_px=10, multiple_px=multiple))
    choice = random.Random(multiple)
    for _ in range(200):
        height, width = (round(2 ** choice.uniform(0, 9.3)) for _ in "hw")
        picture = make_picture(height, width)
        np.testing.assert_array_equal(up(picture), picture.repeat(2, axis=0).repeat(2, axis=1))
    assert set(engine.shapes) <= {(1, side, side, 3) for side in FEW_SIDES_PX}
    # each shape was prepared once, for its two slots
    assert len(engine.shapes) <= 2 * MAX_IDLE_SHAPES
    up.close()


@given(height=st.integers(1, 3000), width=st.integers(1, 3000), radius=st.integers(0, 70))
@settings(max_examples=200)
def test_the_largest_square_that_computes_little_more(height: int, width: int, radius: int) -> None:
    """At most an eighth more pixels than the best square; no larger square would do."""
    plan = planner(radius_px=radius)
    found = list(plan._choices(height, width))
    costs = [plan._cost(height, width, choice) for choice in found]
    chosen = plan.choose(height, width)
    limit = min(costs) * (1 + FEW_TILES_SHARE)
    assert plan._cost(height, width, chosen) <= limit
    for other in found:
        if other.area_px > chosen.area_px:
            assert plan._cost(height, width, other) > limit


@pytest.mark.parametrize(
    ("radius", "multiple", "sides"),
    [
        (10, 1, [128, 256, 384, 512]),
        (10, 48, [144, 288, 384, 528]),
        (64, 1, [256, 384, 512]),
        (300, 8, [1216]),
    ],
)
def test_squares_hold_the_overlap(radius: int, multiple: int, sides: list[int]) -> None:
    """They are multiples, and too small ones are left out; one of twice the overlap always is."""
    plan = planner(radius_px=radius, multiple_px=multiple)
    height, width = multiple, 20 * multiple
    assert [choice.input_shape[1] for choice in plan._choices(height, width)] == sides
    large = 240 * multiple
    assert plan._count(large, large, plan.choose(large, large)) >= 1


@given(height=st.integers(1, 900), width=st.integers(1, 900))
def test_a_square_within_the_picture_if_there_is_one(height: int, width: int) -> None:
    """Then nothing is mirrored, and the result is that of a CPU; else only the rest is."""
    height_px, width_px = planner().plan(height, width, lambda _: 1).padding_px
    if min(height, width) >= FEW_SIDES_PX[0]:
        assert (height_px, width_px) == (0, 0)
    else:
        assert height_px + width_px > 0


def test_a_users_tile_is_the_only_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller pictures are mirrored up to it, instead of a shape of their own."""
    engine = FewShapesEngine()
    manifest = fake_manifest(radius_px=3, multiple_px=4)
    up = open_fake(monkeypatch, engine, manifest, tile=(30, 40), batch=2)
    for size in [(1, 1), (20, 90), (31, 7), (100, 120)]:
        picture = make_picture(*size)
        np.testing.assert_array_equal(up(picture), picture.repeat(2, axis=0).repeat(2, axis=1))
        plan = up.plan(*size)
        assert (plan.tile_px, plan.batch) == ((32, 40), 2)
        assert plan.padding_px == tuple(
            max(-(-have // 4) * 4, tile) - have for have, tile in zip(size, (32, 40), strict=True)
        )
    assert set(engine.shapes) == {(2, 32, 40, 3)}
    with pytest.raises(srsdk.UsageError, match="a tile of 9 px is too small"):
        open_fake(monkeypatch, engine, manifest, tile=9)


def test_less_memory_takes_the_next_smaller_square(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One after the other and never again, down to an error that says so."""
    engine = FewShapesEngine(384 * 384)
    up = open_fake(monkeypatch, engine, fake_manifest(radius_px=10), slots=1)
    picture = make_picture(1000, 1000)
    expected = picture.repeat(2, axis=0).repeat(2, axis=1)
    for side in (384, 256, 128):
        engine.largest_px = side * side
        up._pipeline._pool.drop_idle()
        np.testing.assert_array_equal(up(picture), expected)
        np.testing.assert_array_equal(up(picture), expected)
        assert engine.shapes[-1] == (1, side, side, 3)
    tried = [shape[1] for shape in engine.shapes]
    assert sorted(tried, reverse=True) == tried
    assert len(set(tried)) == 4
    engine.largest_px = 0
    up._pipeline._pool.drop_idle()
    with pytest.raises(srsdk.OutOfMemoryError, match="there is no smaller tile to try"):
        up(picture)
    assert "continuing with inputs of 1x384x384x3 instead of 1x512x512x3" in caplog.text


@given(height=st.integers(1, 900), width=st.integers(1, 900))
@settings(max_examples=50)
def test_other_engines_take_any_shape(height: int, width: int) -> None:
    """On a CPU, shapes fit the picture, which costs least; a tile is no larger than it."""
    plan = planner(few=False)
    best = balanced_tile(height, width, 10, 512 * 512)
    assert plan.choose(height, width).input_shape == (1, *best, 3)
    fixed = planner(few=False, tile=(100, 200))
    assert fixed.choose(height, width).input_shape == (1, min(height, 100), min(width, 200), 3)


def test_slots_of_all_squares_are_kept() -> None:
    """Otherwise pictures of mixed sizes would prepare them again and again."""
    assert len(FEW_SIDES_PX) <= MAX_IDLE_SHAPES
