"""Plans match the actual tiles and memory, exactly if the library reports its memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import srsdk
from srsdk.engines.multi_gpu import MultiGpuEngine, open_on_each
from srsdk.engines.tensorrt import open_tensorrt
from srsdk.inference.planner import Planner, parse_bytes
from tests.conftest import make_picture
from tests.fakes.cuda import FakeRuntime
from tests.fakes.engine import FakeEngine, fake_manifest
from tests.srsdk.gpu_fixtures import open_upscaler, use_fakes, write_engine


@pytest.mark.parametrize("size", [(20, 30), (32, 48), (150, 140), (33, 200)])
def test_the_plan_matches_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """Device bytes, slots and tiles are exact, on a GPU with two profiles."""
    path = write_engine(tmp_path / "x.engine", (1, 32, 48), (4, 32, 48))
    cuda = FakeRuntime()
    tiles: list[int] = []
    with open_upscaler(monkeypatch, path, cuda, slots=3) as up:
        plan = up.plan(*size)
        assert cuda.used_bytes == 0
        up(make_picture(*size), progress=lambda _, total: tiles.append(total))
        assert cuda.used_bytes == plan.device_bytes
        assert plan.is_exact
        assert plan.fits
        assert tiles[0] == plan.tiles
        assert plan.free_bytes == cuda.total_bytes
        again = up.plan(*size)
        assert again == plan
        host = sum(len(cuda.live[a]) for a, kind in cuda.kinds.items() if kind != "device")
        assert plan.host_bytes == host + size[0] * size[1] * 3 * 4
    bottom, right = plan.padding_px
    assert (bottom > 0) == (size[0] < 32)
    assert (right > 0) == (size[1] < 48)


def test_a_plan_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that does not fit raises no error; `max_memory` is treated as all memory."""
    path = write_engine(tmp_path / "x.engine")
    need = 32 * 48 * 3 * 5
    with open_upscaler(monkeypatch, path, FakeRuntime(total_bytes=need - 1)) as up:
        assert not up.plan(32, 48).fits
    with open_upscaler(monkeypatch, path, FakeRuntime(), max_memory=need) as up:
        plan = up.plan(300, 300)
        assert (plan.free_bytes, plan.fits) == (need, False)


def test_max_memory_limits_allocations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer slots, then smaller tiles, then an error with figures; never more memory."""
    path = write_engine(tmp_path / "x.engine", (1, 64, 64), (1, 32, 32))
    small, picture = 32 * 32 * 3, make_picture(150, 150)
    for limit, tile in ((4 * small * 11, (64, 64)), (small * 11, (32, 32)), (small * 6, (32, 32))):
        cuda = FakeRuntime()
        with open_upscaler(monkeypatch, path, cuda, max_memory=limit) as up:
            np.testing.assert_array_equal(up(picture)[::2, ::2], picture)
            assert cuda.used_bytes <= limit
            assert up.plan(150, 150).tile_px == tile
        assert cuda.leaks() == []
    cuda = FakeRuntime()
    words = r"a slot needs 18,432 bytes, max_memory is 15,360"
    with (
        open_upscaler(monkeypatch, path, cuda, max_memory=small * 5) as up,
        pytest.raises(srsdk.OutOfMemoryError, match=words),
    ):
        up(picture)
    assert cuda.leaks() == []


@settings(max_examples=100)
@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    profiles=st.lists(
        st.tuples(st.sampled_from([1, 2, 4]), st.integers(8, 90), st.integers(8, 90)),
        min_size=1, max_size=5, unique=True,
    ),
)  # fmt: skip
def test_a_profile_is_chosen_by_cost(
    height: int, width: int, profiles: list[tuple[int, int, int]]
) -> None:
    """No other profile computes fewer pixels."""
    manifest = fake_manifest(radius_px=3)
    engine: Any = FakeEngine()
    import dataclasses

    manifest = dataclasses.replace(manifest, profiles=tuple(profiles))
    planner = Planner(engine, manifest, None)
    choice = planner.choose(height, width)
    assert (choice.batch, *choice.input_shape[1:3]) in profiles
    costs = [planner._cost(height, width, c) for c in planner._choices(height, width)]
    assert planner._cost(height, width, choice) == min(costs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile": 40}, r"accepts \(32, 32\) or \(64, 64\) only"),
        ({"batch": 3}, r"accepts batches of \[1, 2\] only"),
    ],
)
def test_what_an_engine_does_not_accept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    """The error lists the accepted sizes."""
    path = write_engine(tmp_path / "x.engine", (1, 64, 64), (2, 32, 32))
    cuda = FakeRuntime()
    with pytest.raises(srsdk.UsageError, match=words):
        open_upscaler(monkeypatch, path, cuda, **options)
    assert cuda.leaks() == []


def test_on_a_cpu() -> None:
    """No device bytes; the rest is the same as on a GPU."""
    with srsdk.Upscaler("gan_x4", tile=64) as up:
        plan = up.plan(100, 100)
        assert (plan.device_bytes, plan.free_bytes, plan.fits, plan.slots) == (0, None, True, 2)
        assert plan.tiles == 4
        slots = 2 * 64 * 64 * 3 * 17
        assert plan.host_bytes == slots + 400 * 400 * 3
        with pytest.raises(srsdk.UsageError, match="height is 0"):
            up.plan(0, 10)


def test_parse_bytes() -> None:
    """Numbers and the usual units; nothing else."""
    assert parse_bytes(None) is None
    texts = {"2GB": 2 * 10**9, "512 MiB": 512 * 2**20, "1.5gib": 3 * 2**29, "77": 77}
    assert {text: parse_bytes(text) for text in texts} == texts
    for wrong in ("", "GB", "-1", "2 TBit", 0, -5, True, 1.5):
        with pytest.raises(srsdk.UsageError, match="max_memory is"):
            parse_bytes(wrong)  # type: ignore[arg-type]


def test_several_gpus_share_one_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots alternate between devices for one picture; all devices are opened or none."""
    path = write_engine(tmp_path / "x.engine")
    cuda = FakeRuntime(devices=3)
    use_fakes(monkeypatch, cuda)
    monkeypatch.setattr(
        "srsdk.engines.tensorrt.open_tensorrt",
        lambda path, gpu, max_memory: open_tensorrt(path, gpu, runtime=cuda),
    )
    picture = make_picture(150, 170)
    with srsdk.Upscaler(path, devices=[0, 2]) as up:
        assert up.device == "cuda:0, cuda:2"
        np.testing.assert_array_equal(up(picture)[::2, ::2], picture)
        engine: Any = up._engine
        assert type(engine) is MultiGpuEngine
        living: Any = list(engine.engines)
        assert living[0]._living == living[1]._living >= 2
        assert up.plan(150, 170).device_bytes == cuda.used_bytes
    assert cuda.leaks() == []
    with pytest.raises(srsdk.UsageError, match="cuda:7 does not exist"):
        srsdk.Upscaler(path, devices=[0, 7])
    assert cuda.leaks() == []
    opened: list[int] = []

    def fail_second(gpu: int) -> Any:
        opened.append(gpu)
        if gpu:
            raise srsdk.BackendError("no")
        return FakeEngine()

    with pytest.raises(srsdk.BackendError, match="no"):
        open_on_each(fail_second, [0, 1])
    assert opened == [0, 1]
