"""Only windows that changed are computed, and nothing in the result shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import srsdk
from srsdk.inference.tiling import Tile
from srsdk.video.incremental import Incremental, _windows
from tests.fakes.engine import FakeEngine, fake_manifest
from tests.srsdk.test_upscaler import open_fake

HEIGHT, WIDTH = 150, 210
PRECISIONS: tuple[Literal["fp32", "int8"], ...] = ("fp32", "int8")


@pytest.fixture(scope="module", params=["realtime_x2", "gan_x2"])
def models(request: pytest.FixtureRequest) -> Iterator[list[srsdk.Upscaler]]:
    """Open a model in both precisions and backends."""
    opened = [
        srsdk.Upscaler(request.param, threads=1, precision=precision, backend=backend)
        for precision in PRECISIONS
        for backend in ("openvino", "onnxruntime")
    ]
    yield opened
    for up in opened:
        up.close()


def page(up: srsdk.Upscaler) -> npt.NDArray[np.uint8]:
    """Return a frame with edges everywhere."""
    coarse = np.random.default_rng(1).integers(0, 256, (HEIGHT // 5, WIDTH // 5), dtype=np.uint8)
    plane = np.repeat(np.repeat(coarse, 5, 0), 5, 1)
    return plane if up.manifest.channels == 1 else np.dstack([plane, 255 - plane, plane // 2])


def test_windows_give_the_same_bits(models: list[srsdk.Upscaler]) -> None:
    """Boxes move over a page; every frame equals the same frame upscaled as a whole."""
    for up in models:
        incremental = Incremental(up, HEIGHT, WIDTH)
        for index in range(8):
            frame = page(up).copy()
            frame[10 + index : 20 + index, 3 * index : 3 * index + 9] = 255
            frame[HEIGHT - 5 :, WIDTH - 8 + index :] = 0
            result = incremental.result(incremental.submit(frame))
            np.testing.assert_array_equal(result, up(frame))
        assert incremental.computed_px < 8 * HEIGHT * WIDTH * 0.8


@given(changes=st.lists(st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1))))
@settings(max_examples=15, deadline=None)
def test_any_changed_pixel_is_seen(changes: list[tuple[int, int]]) -> None:
    """Single pixels anywhere, several frames in flight."""
    with srsdk.Upscaler("realtime_x2", threads=1) as up:
        frames, frame = [], page(up)
        for y, x in changes[:6]:
            frame = frame.copy()
            frame[y, x] ^= 255
            frames.append(frame)
        incremental = Incremental(up, HEIGHT, WIDTH)
        jobs = [incremental.submit(each) for each in frames]
        for each, job in zip(frames, jobs, strict=True):
            np.testing.assert_array_equal(incremental.result(job), up(each))


def test_what_does_not_change_is_not_computed(models: list[srsdk.Upscaler]) -> None:
    """An equal frame computes nothing; a frame that changes everywhere is computed as a whole."""
    up: Any = models[0]
    incremental = Incremental(up, HEIGHT, WIDTH)
    frame = page(up)
    first = incremental.result(incremental.submit(frame))
    assert incremental.result(incremental.submit(frame.copy())) is first
    assert incremental.computed_px == HEIGHT * WIDTH
    job = incremental.submit(255 - frame)
    assert job.whole is not None
    assert incremental.computed_px == 2 * HEIGHT * WIDTH
    job.whole.result()


def test_windows_keep_to_the_grid_and_whole_networks_have_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All windows begin on the grid of window attention; what sees all computes whole frames."""
    monkeypatch.setattr(FakeEngine, "device", "cpu")

    def windows(**fields: Any) -> list[Tile]:
        manifest = dataclasses.replace(
            fake_manifest(radius_px=13, multiple_px=8), family="gan", **fields
        )
        return _windows(open_fake(monkeypatch, FakeEngine(), manifest), 328, 200)

    found = windows(tiling="aligned")
    assert len(found) > 1
    assert {span.start % 8 for tile in found for span in (tile.rows, tile.columns)} == {0}
    assert {(t.rows.stop - t.rows.start) % 8 for t in found} == {0}
    for tiling in ("bounded", "none"):
        assert windows(tiling=tiling) == []
