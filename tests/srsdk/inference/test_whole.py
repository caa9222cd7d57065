"""Networks that see the whole picture: whole where memory allows, else the cost is said."""

from __future__ import annotations

import dataclasses
import logging
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import srsdk
from srsdk.engines.protocol import DeviceMemory
from srsdk.inference.global_context.cost import cut_text, expected_db
from srsdk.inference.global_context.whole import LARGE_AREAS_PX, UNKNOWN_BYTES
from srsdk.inference.planner import Planner
from srsdk.manifest import Manifest
from srsdk.system import memory_limits
from tests.conftest import make_picture
from tests.fakes.engine import FakeEngine, FakeSlot, fake_manifest
from tests.srsdk.test_upscaler import open_fake

COST = MappingProxyType({"8": 40.0, "16": 44.0, "32": 48.2})


def global_manifest(tiling: str = "bounded", **fields: Any) -> Manifest:
    """Return the manifest of a network with global context."""
    values = {"radius_px": 32, "radius_measured": True, "tiling_db": COST, **fields}
    return dataclasses.replace(fake_manifest(), tiling=tiling, **values)


def with_memory(patch: pytest.MonkeyPatch, free_bytes: int) -> None:
    """Let the machine have so much memory."""
    patch.setattr(memory_limits, "allowance", lambda _: free_bytes + memory_limits.FIXED_BYTES)


class MeanSlot(FakeSlot):
    """Adds the mean of the whole input to every pixel."""

    def wait(self) -> Any:
        """Compute now."""
        large = super().wait().astype(int)
        return (large - large // 8 + int(self.input.mean()) // 8).astype(np.uint8)


class WindowSlot(FakeSlot):
    """Replaces each window of 8x8 px of its input by its mean, twice, the second time shifted."""

    def wait(self) -> Any:
        """Compute now."""
        super().wait()
        _, height, width, channels = self.input.shape
        assert height % 8 == width % 8 == 0
        x = self.input[0].astype(np.float64)
        for shift in (0, 4):
            inner = x[shift : height - shift, shift : width - shift]
            rows, columns = inner.shape[0] // 8, inner.shape[1] // 8
            parts = inner.reshape(rows, 8, columns, 8, channels)
            parts[...] = parts * 0.5 + parts.mean(axis=(1, 3), keepdims=True) * 0.5
            x[shift : height - shift, shift : width - shift] = parts.reshape(inner.shape)
        result = np.rint(x).astype(np.uint8)[None]
        return result.repeat(2, axis=1).repeat(2, axis=2)


class SlotEngine(FakeEngine):
    """A fake engine with slots of its own kind."""

    kind: type[FakeSlot] = MeanSlot

    def slot(self, input_shape: tuple[int, ...]) -> FakeSlot:
        """Make a slot."""
        self.slots.append(self.kind(self, input_shape))
        return self.slots[-1]


class WindowEngine(SlotEngine):
    """A network with window attention."""

    kind = WindowSlot


class GpuEngine(SlotEngine):
    """An engine whose library says when memory runs out."""

    few_shapes = True

    def device_memory(self, input_shape: tuple[int, ...]) -> Any:
        """Return some memory."""
        return DeviceMemory(1 << 30, 0)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    tile=st.tuples(st.integers(40, 90), st.integers(40, 90)),
)
def test_aligned_tiles_equal_the_whole(height: int, width: int, tile: tuple[int, int]) -> None:
    """For any size and tile: all tiles start on the windows' grid, the last one too."""
    manifest = dataclasses.replace(
        fake_manifest(radius_px=12, multiple_px=8), tiling="aligned", radius_measured=True
    )
    picture = np.random.default_rng(height * 151 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    with pytest.MonkeyPatch.context() as patch:
        whole = open_fake(patch, WindowEngine(), manifest, tile=160)(picture)
        tiled = open_fake(patch, WindowEngine(), manifest, tile=tile)(picture)
    np.testing.assert_array_equal(whole, tiled)


def test_an_aligned_engine_uses_sizes_on_the_grid() -> None:
    """The last tile of another size would begin off the grid."""
    manifest = dataclasses.replace(
        fake_manifest(radius_px=12, multiple_px=8),
        tiling="aligned",
        profiles=((1, 100, 100), (1, 64, 64)),
    )
    engine: Any = WindowEngine()
    assert Planner(engine, manifest, None).choose(200, 200).tile_px == (64, 64)


def test_a_picture_that_fits_is_computed_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is one tile, however large, and nothing needs to be said."""
    with_memory(monkeypatch, 1 << 36)
    up = open_fake(monkeypatch, SlotEngine(), global_manifest(bytes_per_px=1000))
    picture = make_picture(700, 800)
    with caplog.at_level(logging.INFO, "srsdk"):
        result = up(picture)
    large = picture.repeat(2, axis=0).repeat(2, axis=1).astype(int)
    assert np.unique(result - (large - large // 8)).size == 1
    plan = up.plan(700, 800)
    assert (plan.tiles, plan.tiling, plan.tiling_db) == (1, "exact", None)
    assert not [record for record in caplog.records if "sees the whole" in record.message]


def test_what_tiles_cost_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A picture beyond memory is computed in the largest tiles that fit; planning says nothing."""
    with_memory(monkeypatch, 3 * 1500 * 700 * 700)
    up = open_fake(monkeypatch, SlotEngine(), global_manifest(bytes_per_px=1000))
    with caplog.at_level(logging.INFO, "srsdk"):
        plan = up.plan(1000, 1000)
        assert (plan.tiling, plan.tiling_db) == ("bounded", 48.2)
        assert not caplog.records
        up(make_picture(1000, 1000))
        up(make_picture(1000, 1000))
    (record,) = [each for each in caplog.records if "sees the whole" in each.message]
    height, width = plan.tile_px
    assert height * width <= 512 * 512
    assert record.levelno == logging.WARNING
    assert (
        f"of 1000x1000 px is computed in tiles of {height}x{width} px with 32 px of overlap: "
        "48.2 dB against the whole picture, measured at export"
    ) in record.message


def test_an_invisible_cost_is_no_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From 50 dB on it is information; a tile of the user's rules, and the advice is another."""
    manifest = global_manifest(tiling_db=MappingProxyType({"32": 61.0}))
    up = open_fake(monkeypatch, SlotEngine(), manifest, tile=100)
    with caplog.at_level(logging.INFO, "srsdk"):
        up(make_picture(120, 120))
    (record,) = [each for each in caplog.records if "sees the whole" in each.message]
    assert record.levelno == logging.INFO
    assert "omit tile=" in record.message


def test_a_network_of_whole_pictures_refuses_to_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how much memory it takes; a tile of the user's rules."""
    with_memory(monkeypatch, 1_000_000)
    manifest = global_manifest("none", bytes_per_px=1000)
    up = open_fake(monkeypatch, SlotEngine(), manifest)
    with pytest.raises(srsdk.OutOfMemoryError, match=r"fake computes whole pictures only: 300x200"):
        up(make_picture(300, 200))
    assert up(make_picture(10, 12)).shape == (20, 24, 3)
    forced = open_fake(monkeypatch, SlotEngine(), manifest, tile=100)
    assert forced(make_picture(300, 200)).shape == (600, 400, 3)


def test_a_network_of_whole_pictures_and_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture beyond its only input is refused, even if there is memory."""
    manifest = global_manifest("none", size_px=(96, 128))
    up = open_fake(monkeypatch, SlotEngine(), manifest)
    assert up(make_picture(50, 60)).shape == (100, 120, 3)
    with pytest.raises(srsdk.UsageError, match="got 97x128 where its largest input holds 96x128"):
        up(make_picture(97, 128))


def test_of_several_inputs_the_smallest_that_holds_the_picture_is_used() -> None:
    """Or else the largest, although smaller ones would compute fewer pixels."""
    profiles = ((1, 100, 100), (1, 200, 200), (1, 300, 300))
    engine: Any = SlotEngine()
    planner = Planner(engine, global_manifest(profiles=profiles), None)
    sizes = {side: planner.choose(side, side).input_shape[1] for side in (90, 150, 250, 310)}
    assert sizes == {90: 100, 150: 200, 250: 300, 310: 300}


def test_without_a_measurement_the_estimate_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the areas beyond the usual ones are limited by it: the usual ones as ever."""
    engine: Any = SlotEngine()
    manifest = global_manifest(tiling_db=MappingProxyType({}))
    with_memory(monkeypatch, 0)
    assert Planner(engine, manifest, None).choose(600, 600).area_px <= 512 * 512
    with_memory(monkeypatch, 2 * 600 * 600 * (UNKNOWN_BYTES + 200))
    assert Planner(engine, manifest, None).choose(600, 600).tile_px == (600, 600)
    with_memory(monkeypatch, 2 * LARGE_AREAS_PX[1] * (UNKNOWN_BYTES + 200))
    assert 512 * 512 < Planner(engine, manifest, None).choose(3000, 3000).area_px <= 1 << 20


def test_what_ran_before_may_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend keeps its memory, so less is free, but the same pictures need no more."""
    with_memory(monkeypatch, 1 << 36)
    engine: Any = SlotEngine()
    planner = Planner(engine, global_manifest(bytes_per_px=1000), None)
    assert planner.choose(700, 700).tile_px == (700, 700)
    with_memory(monkeypatch, 1 << 20)
    assert planner.choose(700, 700).tile_px == (700, 700)
    assert planner.choose(800, 700).area_px < 700 * 700


def test_a_gpu_tries_the_whole_first() -> None:
    """Then the next smaller areas, each once; never a mirrored picture."""
    engine: Any = GpuEngine()
    planner = Planner(engine, global_manifest(), None)
    choice = planner.choose(1500, 1500)
    assert choice.input_shape == (1, 1500, 1500, 3)
    areas = [choice.area_px]
    error = srsdk.OutOfMemoryError("no")
    for _ in range(4):
        choice = planner.choose_smaller(choice, 1500, 1500, error)
        areas.append(choice.area_px)
    assert areas == sorted(set(areas), reverse=True)
    assert areas[1] > 512 * 512
    with pytest.raises(srsdk.OutOfMemoryError, match="no smaller tile"):
        planner.choose_smaller(choice, 1500, 1500, error)


def test_a_network_that_nobody_measured_is_not_said_to_see_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a GPU it shares the squares of the others; the log says what is not known."""
    manifest = global_manifest(tiling_db=MappingProxyType({}))
    engine: Any = GpuEngine()
    assert Planner(engine, manifest, None).choose(700, 700).input_shape[1] in (256, 384, 512)
    with_memory(monkeypatch, 0)
    up = open_fake(monkeypatch, SlotEngine(), manifest)
    caplog.clear()
    up(make_picture(600, 600))
    (record,) = [each for each in caplog.records if "is computed in tiles" in each.message]
    assert "fake may see further than 32 px, and this one of 600x600 px" in record.message
    assert "what that costs was not measured" in record.message


def test_texts() -> None:
    """`repr()` shows the kind and its cost; a missing overlap takes the next smaller one's."""
    assert cut_text(fake_manifest()) == "overlap 3 px"
    aligned = dataclasses.replace(fake_manifest(multiple_px=8), tiling="aligned")
    assert cut_text(aligned) == "overlap 3 px on a grid of 8 px"
    assert cut_text(global_manifest()) == "overlap 32 px at 48.2 dB where the whole does not fit"
    assert cut_text(global_manifest("none")) == "whole pictures only"
    unknown = global_manifest(tiling_db=MappingProxyType({}))
    assert cut_text(unknown) == "overlap 32 px at a cost not measured where the whole does not fit"
    assert expected_db(global_manifest(radius_px=20)) == 44.0
    assert expected_db(global_manifest(radius_px=4)) is None
