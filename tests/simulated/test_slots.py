"""Slots on the simulated GPU: order of work, memory, graphs, failures, random schedules."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import srsdk
from srsdk.engines.cuda.engine import CudaEngine
from srsdk.engines.cuda.slot import MEASURED_RUNS, CudaSlot
from tests.conftest import Picture, make_picture
from tests.simulated.fixtures import open_upscaler, write_engine
from tests.simulators.cuda import (
    CAPTURE_UNSUPPORTED,
    INVALID_VALUE,
    LAUNCH_FAILED,
    OUT_OF_MEMORY,
    Simulator,
)


@pytest.fixture
def engine_file(tmp_path: Path) -> Path:
    """An engine file with one profile of 1x32x48."""
    return write_engine(tmp_path / "x.engine")


def nearest(picture: Picture, scale: int = 2) -> Picture:
    """Return what the fake network computes: the oracle."""
    result: Picture = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    return result


OPTIONS = st.fixed_dictionaries(
    {
        "slots": st.integers(1, 8),
        "compute_streams": st.integers(1, 3),
        "graphs": st.booleans(),
    }
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    options=OPTIONS,
    batch=st.sampled_from([1, 3]),
    flavour=st.sampled_from(["tensorrt", "rtx"]),
    layout=st.sampled_from([("uint8", False), ("float32", True), ("float32", False)]),
    size=st.tuples(st.integers(1, 90), st.integers(1, 120)),
)
def test_any_schedule_gives_the_picture(
    gpu: Simulator,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    options: dict[str, Any],
    batch: int,
    flavour: str,
    layout: tuple[str, bool],
    size: tuple[int, int],
) -> None:
    """Any order and delay of the streams gives the right picture and leaks nothing."""
    gpu.reset(seed)
    path = tmp_path_factory.mktemp("e") / "x.engine"
    kind = {"dtype": layout[0], "layout": "NCHW" if layout[1] else "NHWC"}
    write_engine(
        path, (batch, 32, 48), flavour=flavour, manifest=kind, dtype=layout[0], nchw=layout[1]
    )
    picture = make_picture(*size)
    with (
        pytest.MonkeyPatch.context() as patch,
        open_upscaler(patch, path, gpu, flavour=flavour, **options) as up,
    ):
        np.testing.assert_array_equal(up(picture), nearest(picture))
        np.testing.assert_array_equal(up(picture[::-1]), nearest(picture[::-1]))
    assert gpu.violations() == []
    assert gpu.leaks() == []


FAILING = (
    "cuMemAlloc", "cuMemHostAlloc", "cuStreamCreate", "cuEventCreate", "cuMemcpyHtoDAsync",
    "cuMemcpyDtoHAsync", "cuEventRecord", "cuStreamWaitEvent", "cuEventSynchronize",
    "cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphLaunch",
    "cuMemGetInfo", "cuCtxPushCurrent", "simStage", "simRepeat", "kernel",
)  # fmt: skip


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    slots=st.integers(1, 8),
    name=st.sampled_from(FAILING),
    at=st.integers(1, 40),
    error=st.sampled_from([OUT_OF_MEMORY, INVALID_VALUE, LAUNCH_FAILED]),
)
def test_any_failure_is_an_error_or_the_right_picture(
    gpu: Simulator,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    slots: int,
    name: str,
    at: int,
    error: int,
) -> None:
    """Any failed call gives our error or the right picture, and leaks nothing.

    After an error that is not sticky, the same Upscaler works; after a sticky one, nothing does.
    """
    gpu.reset(seed)
    path = write_engine(tmp_path_factory.mktemp("e") / "x.engine")
    if name == "kernel":
        error = LAUNCH_FAILED  # what fails on the GPU itself is sticky
    gpu.fail(name, at, error)
    picture = make_picture(70, 130)
    with (
        pytest.MonkeyPatch.context() as patch,
        # it may fail to open, or lack memory for its only shape, but raise no other error
        contextlib.suppress(srsdk.BackendError, srsdk.ModelError),
        open_upscaler(patch, path, gpu, slots=slots) as up,
    ):
        for _ in range(2):
            with contextlib.suppress(srsdk.BackendError):
                np.testing.assert_array_equal(up(picture), nearest(picture))
        np.testing.assert_array_equal(up(picture), nearest(picture))
    assert gpu.violations() == []
    if error != LAUNCH_FAILED:
        assert gpu.leaks() == []
    gpu.reset()


def test_order_of_one_tile(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copy in, event, the compute stream waits, graph, event, the slot waits, copy out, event."""
    with open_upscaler(monkeypatch, engine_file, gpu, slots=1) as up:
        up(make_picture(32, 48))
        gpu.log()
        up(make_picture(32, 48))
        calls = [name for name in gpu.log() if not name.startswith("cuCtx")]
    assert calls == [
        "cuMemcpyHtoDAsync",
        "cuEventRecord",
        "cuStreamWaitEvent",
        "cuGraphLaunch",
        "cuEventRecord",
        "cuStreamWaitEvent",
        "cuMemcpyDtoHAsync",
        "cuEventRecord",
        "cuEventSynchronize",
    ]


def test_memory_of_a_slot(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write-combined input, pinned output, both on the device; one scratch for all slots."""
    with open_upscaler(monkeypatch, engine_file, gpu, slots=3) as up:
        up(make_picture(200, 200))
        small, large = 32 * 48 * 3, 4 * 32 * 48 * 3
        device = [("device", small)] * 4 + [("device", large)] * 3
        assert gpu.memory() == [
            *device, *[("pinned", large)] * 3, *[("write-combined", small)] * 3
        ]  # fmt: skip
        assert gpu.streams() == 1 + 3


def test_a_graph_is_captured_once_for_each_slot(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capture follows one plain run; TensorRT for RTX captures graphs itself."""
    with open_upscaler(monkeypatch, engine_file, gpu, slots=2) as up:
        for seed in range(5):
            up(make_picture(90, 90, seed))
        assert gpu.made("cuStreamBeginCapture") == 2
        assert gpu.made("cuGraphLaunch") > 10
    gpu.reset()
    monkeypatch.setenv("SRSDK_CACHE", "")
    rtx = write_engine(engine_file.with_name("r.engine"), flavour="rtx")
    with open_upscaler(monkeypatch, rtx, gpu, flavour="rtx") as up:
        up(make_picture(90, 90))
    assert not gpu.made("cuStreamBeginCapture")


def test_a_failed_capture_is_logged_and_skipped(
    gpu: Simulator,
    engine_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A library that cannot be captured still computes."""
    for _ in range(8):
        gpu.fail("cuGraphInstantiate", 1, CAPTURE_UNSUPPORTED)
    picture = make_picture(60, 60)
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        np.testing.assert_array_equal(up(picture), nearest(picture))
    assert "no CUDA graph for (1, 32, 48, 3)" in caplog.text


def test_the_number_of_slots_is_measured_once(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two to four slots, measured with the first slot of a shape."""
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        up(make_picture(200, 200))
        engine: Any = up._engine
        assert isinstance(engine, CudaEngine)
        wanted = engine.wanted_slots((1, 32, 48, 3))
        assert 2 <= wanted <= 4
        elapsed = gpu.made("cuEventElapsedTime")
        up(make_picture(200, 200))
        assert gpu.made("cuEventElapsedTime") == elapsed == 3 * (1 + MEASURED_RUNS)
        assert len([kind for kind, _ in gpu.memory() if kind == "pinned"]) == wanted


def test_many_threads(gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen calls from eight threads on one stream: kernels of two networks never interleave."""
    pictures = [make_picture(50 + index, 90, index) for index in range(16)]
    with open_upscaler(monkeypatch, engine_file, gpu, slots=3) as up:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(up, pictures))
        for picture, result in zip(pictures, results, strict=True):
            np.testing.assert_array_equal(result, nearest(picture))


def test_fewer_slots_where_memory_is_short(
    gpu: Simulator,
    engine_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The second slot does not fit: logged once, and the picture is right."""
    input_bytes = 32 * 48 * 3
    gpu.reset(total_bytes=9 * input_bytes)
    picture = make_picture(150, 150)
    with open_upscaler(monkeypatch, engine_file, gpu, slots=4) as up:
        for _ in range(3):
            np.testing.assert_array_equal(up(picture), nearest(picture))
    assert caplog.text.count("continuing with 1 slot(s)") == 1


def test_smaller_tiles_where_memory_is_short(
    gpu: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The larger profile does not fit: logged once, and the smaller one is used from then on."""
    path = write_engine(tmp_path / "x.engine", (1, 64, 64), (1, 32, 32), (4, 32, 32))
    gpu.reset(total_bytes=20 * 32 * 32 * 3)
    picture = make_picture(150, 150)
    with open_upscaler(monkeypatch, path, gpu) as up:
        for _ in range(3):
            np.testing.assert_array_equal(up(picture), nearest(picture))
        assert up.plan(150, 150).tile_px == (32, 32)
    assert caplog.text.count("continuing with inputs of 1x32x32x3") == 1


def test_no_memory_at_all_is_a_clear_error(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names bytes, device and what was tried; nothing stays allocated."""
    gpu.reset(total_bytes=1000)
    picture = make_picture(150, 150)
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        with pytest.raises(
            srsdk.OutOfMemoryError,
            match=r"needs 27,648 bytes on cuda:0, 1,000 are free.*no smaller",
        ):
            up(picture)
        assert gpu.memory() == []


def test_close_while_a_slot_is_lent(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compute stream outlives the slot that computes on it; nothing leaks."""
    up = open_upscaler(monkeypatch, engine_file, gpu)

    def close(done: int, total: int) -> None:
        another = threading.Thread(target=up.close)
        another.start()
        another.join()

    picture = make_picture(100, 100)
    np.testing.assert_array_equal(up(picture, progress=close), nearest(picture))
    with pytest.raises(srsdk.BackendError, match="closed"):
        up(picture)


def test_a_context_that_is_refused(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's message is quoted; out of memory is recognized by its text."""
    from tests.simulated import fixtures

    modules: list[Any] = []
    real = fixtures.use_fakes

    def keep(*arguments: Any) -> Any:
        modules.append(real(*arguments))
        return modules[-1]

    monkeypatch.setattr(fixtures, "use_fakes", keep)
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        modules[0].refuse_context_at = 1
        with pytest.raises(srsdk.OutOfMemoryError, match="no room for a context"):
            up(make_picture(20, 20))


@pytest.mark.parametrize("nchw", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_plain_plan_opens_by_inspection(
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, nchw: bool
) -> None:
    """Without a manifest (trtexec, Polygraphy), layout, type and the optimal shape are inferred."""
    dynamic = ((1, 16, 16), (2, 64, 96), (4, 128, 128))
    path = tmp_path / "plain.engine"
    write_engine(path, dynamic, plain=True, dtype=dtype, nchw=nchw, scale=3)
    picture = make_picture(100, 130)
    with open_upscaler(monkeypatch, path, gpu) as up:
        m = up.manifest
        assert (m.scale, m.dtype, m.layout) == (3, dtype, "NCHW" if nchw else "NHWC")
        assert (m.size_px, m.profiles) == ((64, 96), ((2, 64, 96),))
        np.testing.assert_array_equal(up(picture), nearest(picture, 3))


def test_a_plain_plan_of_another_type(
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float16 input and output is rejected with one message, and nothing leaks."""
    path = write_engine(tmp_path / "p.engine", plain=True, dtype="float16")
    with pytest.raises(srsdk.ModelError, match="maps half to half, expected uint8"):
        open_upscaler(monkeypatch, path, gpu)


def test_the_median_of_several_runs_sets_the_number_of_slots(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first run that compiles for a second, and one that was disturbed, change nothing."""
    took = iter([(1000.0, 1.0), (1.0, 2.5), (1.0, 2.5), (900.0, 2.5), (1.0, 2.5), (1.0, 70.0)])
    monkeypatch.setattr(CudaSlot, "_measure_once", lambda _: next(took))
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        up(make_picture(32, 48))
        engine: Any = up._engine
        assert engine.wanted_slots((1, 32, 48, 3)) == 1 + 3


def test_events_that_only_order_have_no_times(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA refuses to time them; those with times are made when somebody asks."""
    with open_upscaler(monkeypatch, engine_file, gpu, slots=2) as up:
        up(make_picture(40, 60))
        engine: Any = up._engine
        slot = engine.slot((1, 32, 48, 3))
        with engine.gpu.active():
            for handle in slot._events.values():
                code, _ = driver.cuEventElapsedTime(handle, handle)
                assert code == driver.CUresult.CUDA_ERROR_INVALID_HANDLE
        before = gpu.made("cuEventCreate")
        slot.timed = True
        slot.submit()
        slot.wait()
        assert set(slot.times()) == {"h2d", "execute", "d2h"}
        assert gpu.made("cuEventCreate") == before + 6
        slot.close()


def test_a_graph_goes_before_what_it_calls(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The captured graph is destroyed before the library's context, whose kernels it launches."""
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        engine: Any = up._engine
        slot = engine.slot((1, 32, 48, 3))
        seen: list[bool] = []
        real = slot._run.close

        def close() -> None:
            seen.append("cuGraphExecDestroy" in gpu.log())
            real()

        slot._run.close = close
        assert slot.has_graph
        gpu.log()
        slot.close()
    assert seen == [True]


def test_what_prepares_on_the_compute_stream_holds_its_lock(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Setting the profile enqueues work, which must not come between another slot's kernels.

    Making the context compiles for seconds and does not hold it.
    """
    held: dict[str, bool] = {}
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        engine: Any = up._engine
        (stream,) = engine._compute_streams
        context = engine.network._context

        def make() -> Any:
            held["context"] = stream.lock.locked()
            made = context()
            real = made.set_optimization_profile_async

            def profile(*arguments: Any) -> Any:
                held["profile"] = stream.lock.locked()
                return real(*arguments)

            made.set_optimization_profile_async = profile
            return made

        monkeypatch.setattr(engine.network, "_context", make)
        engine.slot((1, 32, 48, 3)).close()
    assert held == {"context": False, "profile": True}


def test_held_bytes_while_slots_come_and_go(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum is read by any thread while others make and close slots."""
    failures: list[BaseException] = []
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        engine: Any = up._engine
        done = threading.Event()

        def watch() -> None:
            try:
                while not done.is_set():
                    assert engine.held_bytes >= 0
            except BaseException as error:
                failures.append(error)

        watchers = [threading.Thread(target=watch) for _ in range(2)]
        for watcher in watchers:
            watcher.start()
        for _ in range(12):
            slots = [engine.slot((1, 32, 48, 3)) for _ in range(3)]
            for slot in slots:
                slot.close()
        done.set()
        for watcher in watchers:
            watcher.join()
    assert failures == []
