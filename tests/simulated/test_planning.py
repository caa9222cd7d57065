"""Plans, memory limits, profiles and several GPUs, on the simulated GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srsdk
from srsdk.engines.multi_gpu import MultiGpuEngine, open_on_each
from tests.conftest import make_picture
from tests.fakes.engine import FakeEngine
from tests.simulated.fixtures import open_upscaler, use_fakes, write_engine
from tests.simulators.cuda import GIB, Simulator


def device_bytes(gpu: Simulator) -> int:
    """Return all allocated device memory."""
    return sum(size for kind, size in gpu.memory() if kind == "device")


@pytest.mark.parametrize("size", [(20, 30), (32, 48), (150, 140), (33, 200)])
def test_the_plan_matches_the_run(
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """Device bytes, slots and tiles are exact, on a GPU with two profiles."""
    path = write_engine(tmp_path / "x.engine", (1, 32, 48), (4, 32, 48))
    tiles: list[int] = []
    with open_upscaler(monkeypatch, path, gpu, slots=3) as up:
        plan = up.plan(*size)
        assert gpu.memory() == []
        up(make_picture(*size), progress=lambda _, total: tiles.append(total))
        assert device_bytes(gpu) == plan.device_bytes
        assert plan.is_exact
        assert plan.fits
        assert tiles[0] == plan.tiles
        assert plan.free_bytes == GIB
        again = up.plan(*size)
        assert again == plan
        host = sum(size for kind, size in gpu.memory() if kind != "device")
        assert plan.host_bytes == host + size[0] * size[1] * 3 * 4
    bottom, right = plan.padding_px
    assert (bottom > 0) == (size[0] < 32)
    assert (right > 0) == (size[1] < 48)


def test_a_plan_that_does_not_fit(
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan that does not fit raises no error; `max_memory` is treated as all memory."""
    path = write_engine(tmp_path / "x.engine")
    need = 32 * 48 * 3 * 5
    gpu.reset(total_bytes=need - 1)
    with open_upscaler(monkeypatch, path, gpu) as up:
        assert not up.plan(32, 48).fits
    gpu.reset()
    with open_upscaler(monkeypatch, path, gpu, max_memory=need) as up:
        plan = up.plan(300, 300)
        assert (plan.free_bytes, plan.fits) == (need, False)


def test_max_memory_limits_allocations(
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer slots, then smaller tiles, then an error with figures; never more memory."""
    path = write_engine(tmp_path / "x.engine", (1, 64, 64), (1, 32, 32))
    small, picture = 32 * 32 * 3, make_picture(150, 150)
    for limit, tile in ((4 * small * 11, (64, 64)), (small * 11, (32, 32)), (small * 6, (32, 32))):
        with open_upscaler(monkeypatch, path, gpu, max_memory=limit) as up:
            np.testing.assert_array_equal(up(picture)[::2, ::2], picture)
            assert device_bytes(gpu) <= limit
            assert up.plan(150, 150).tile_px == tile
        assert gpu.leaks() == []
    words = r"a slot needs 18,432 bytes, max_memory is 15,360"
    with (
        open_upscaler(monkeypatch, path, gpu, max_memory=small * 5) as up,
        pytest.raises(srsdk.OutOfMemoryError, match=words),
    ):
        up(picture)
    assert gpu.leaks() == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile": 40}, r"accepts \(32, 32\) or \(64, 64\) only"),
        ({"batch": 3}, r"accepts batches of \[1, 2\] only"),
    ],
)
def test_what_an_engine_does_not_accept(
    gpu: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    words: str,
) -> None:
    """The error lists the accepted sizes."""
    path = write_engine(tmp_path / "x.engine", (1, 64, 64), (2, 32, 32))
    with pytest.raises(srsdk.UsageError, match=words):
        open_upscaler(monkeypatch, path, gpu, **options)
    assert gpu.leaks() == []


def test_several_gpus_share_one_queue(
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots alternate between devices for one picture; all devices are opened or none."""
    path = write_engine(tmp_path / "x.engine")
    gpu.reset(devices=3)
    use_fakes(monkeypatch, gpu)
    picture = make_picture(150, 170)
    with srsdk.Upscaler(path, devices=[0, 2]) as up:
        assert up.device == "cuda:0, cuda:2"
        np.testing.assert_array_equal(up(picture)[::2, ::2], picture)
        engine: Any = up._engine
        assert type(engine) is MultiGpuEngine
        living: Any = list(engine.engines)
        assert living[0]._living == living[1]._living >= 2
        assert up.plan(150, 170).device_bytes == device_bytes(gpu)
    assert gpu.leaks() == []
    with pytest.raises(srsdk.UsageError, match="cuda:7 does not exist"):
        srsdk.Upscaler(path, devices=[0, 7])
    assert gpu.leaks() == []
    opened: list[int] = []

    def fail_second(index: int) -> Any:
        opened.append(index)
        if index:
            raise srsdk.BackendError("no")
        return FakeEngine()

    with pytest.raises(srsdk.BackendError, match="no"):
        open_on_each(fail_second, [0, 1])
    assert opened == [0, 1]


def test_profile_on_a_gpu(gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events time every step of every tile; without profiling there is no extra event."""
    with open_upscaler(monkeypatch, write_engine(tmp_path / "x.engine"), gpu) as up:
        up(make_picture(100, 100))
        gpu.log()
        up(make_picture(100, 100))
        plain = gpu.log().count("cuEventRecord")
        with up.profile() as calls:
            up(make_picture(100, 100))
        (call,) = calls
        assert min(call.h2d_ms, call.execute_ms, call.d2h_ms) > 0
        gpu.log()
        up(make_picture(100, 100))
        assert gpu.log().count("cuEventRecord") == plain == 3 * call.tiles


def test_kernels_are_cached_between_openings(
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written after the first run of a shape, loaded at the next opening."""
    monkeypatch.setenv("SRSDK_CACHE", str(tmp_path / "cache"))
    path = write_engine(tmp_path / "x.engine", flavour="rtx")
    for expected in (None, b"kernels"):
        with pytest.MonkeyPatch.context() as patch:
            with open_upscaler(patch, path, gpu, flavour="rtx") as up:
                up(make_picture(20, 20))
                network: Any = up._engine
                module = network.network._library.module
            assert getattr(module, "cache_seen", None) == expected
        assert len(list((tmp_path / "cache" / "rtx").iterdir())) == 1
