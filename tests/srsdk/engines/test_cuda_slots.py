"""Slots on a fake GPU: order of work, memory, graphs, failures, random schedules."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import srsdk
from srsdk.engines.cuda.engine import CudaEngine
from tests.conftest import Picture, make_picture
from tests.fakes.cuda import CudaError, FakeRuntime
from tests.srsdk.gpu_fixtures import open_upscaler, write_engine


@pytest.fixture
def engine_file(tmp_path: Path) -> Path:
    """An engine file with one profile of 1x32x48."""
    return write_engine(tmp_path / "x.engine")


def nearest(picture: Picture, scale: int = 2) -> Picture:
    """Return what the fake network computes: the oracle."""
    result: Picture = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    return result


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    slots=st.integers(1, 8),
    compute_streams=st.integers(1, 3),
    graphs=st.booleans(),
    batch=st.sampled_from([1, 3]),
    flavour=st.sampled_from(["tensorrt", "rtx"]),
    layout=st.sampled_from([("uint8", False), ("float32", True), ("float32", False)]),
    size=st.tuples(st.integers(1, 90), st.integers(1, 120)),
)
def test_any_schedule_gives_the_picture(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    slots: int,
    compute_streams: int,
    graphs: bool,
    batch: int,
    flavour: str,
    layout: tuple[str, bool],
    size: tuple[int, int],
) -> None:
    """Any order and delay of the streams gives the right picture and leaks nothing."""
    cuda = FakeRuntime(seed)
    path = tmp_path_factory.mktemp("e") / "x.engine"
    kind = {"dtype": layout[0], "layout": "NCHW" if layout[1] else "NHWC"}
    write_engine(
        path, (batch, 32, 48), flavour=flavour, manifest=kind, dtype=layout[0], nchw=layout[1]
    )
    picture = make_picture(*size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SRSDK_CACHE", "")
        options: dict[str, Any] = {
            "compute_streams": compute_streams,
            "graphs": graphs,
            "slots": slots,
        }
        with open_upscaler(patch, path, cuda, flavour=flavour, **options) as up:
            np.testing.assert_array_equal(up(picture), nearest(picture))
            np.testing.assert_array_equal(up(picture[::-1]), nearest(picture[::-1]))
    assert cuda.leaks() == []


FAILING = (
    "cudaMalloc", "cudaHostAlloc", "cudaStreamCreateWithFlags", "cudaEventCreateWithFlags",
    "cudaMemcpyAsync", "cudaEventRecord", "cudaStreamWaitEvent", "cudaEventSynchronize",
    "cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphLaunch",
    "execute",
)  # fmt: skip


@settings(max_examples=80)
@given(
    seed=st.integers(0, 10**6),
    slots=st.integers(1, 8),
    name=st.sampled_from(FAILING),
    at=st.integers(1, 40),
    error=st.sampled_from([CudaError.cudaErrorMemoryAllocation, CudaError.cudaErrorLaunchFailure]),
)
def test_any_failure_is_an_error_or_the_right_picture(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    slots: int,
    name: str,
    at: int,
    error: CudaError,
) -> None:
    """Any failed CUDA call gives our error or the right picture, and leaks nothing."""
    count = 0

    def fail(called: str, _: int) -> CudaError | None:
        nonlocal count
        count += called == name
        return error if called == name and count == at else None

    cuda = FakeRuntime(seed, fail=fail)
    path = write_engine(tmp_path_factory.mktemp("e") / "x.engine")
    picture = make_picture(70, 130)
    with (
        pytest.MonkeyPatch.context() as patch,
        # it may fail to open, or lack memory for its only shape, but raise no other error
        contextlib.suppress(srsdk.BackendError, srsdk.ModelError),
        open_upscaler(patch, path, cuda, slots=slots) as up,
    ):
        for _ in range(2):
            with contextlib.suppress(srsdk.BackendError):
                np.testing.assert_array_equal(up(picture), nearest(picture))
        # after the fault it works again
        np.testing.assert_array_equal(up(picture), nearest(picture))
    assert cuda.leaks() == []


def test_order_of_one_tile(engine_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy in, event, the compute stream waits, graph, event, the slot waits, copy out, event."""
    cuda = FakeRuntime()
    with open_upscaler(monkeypatch, engine_file, cuda, slots=1) as up:
        up(make_picture(32, 48))
        cuda.log.clear()
        up(make_picture(32, 48))
    order = cuda.log[: cuda.log.index("cudaEventSynchronize") + 1]
    assert order == [
        "cudaMemcpyAsync",
        "cudaEventRecord",
        "cudaStreamWaitEvent",
        "cudaGraphLaunch",
        "cudaEventRecord",
        "cudaStreamWaitEvent",
        "cudaMemcpyAsync",
        "cudaEventRecord",
        "cudaEventSynchronize",
    ]


def test_memory_of_a_slot(engine_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write-combined input, pinned output, both on the device; one scratch for all slots."""
    cuda = FakeRuntime()
    with open_upscaler(monkeypatch, engine_file, cuda, slots=3) as up:
        up(make_picture(200, 200))
        kinds = sorted(cuda.kinds.values())
        assert kinds == ["device"] * 7 + ["pinned"] * 3 + ["write-combined"] * 3
        sizes = sorted(len(cuda.live[a]) for a, kind in cuda.kinds.items() if kind == "device")
        input_bytes = 32 * 48 * 3
        assert sizes == [input_bytes] * 4 + [4 * input_bytes] * 3
        assert len(cuda.streams) == 2 + 1 + 3
    assert cuda.leaks() == []


def test_a_graph_is_captured_once_for_each_slot(
    engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The capture follows one plain run; TensorRT for RTX captures graphs itself."""
    cuda = FakeRuntime()
    with open_upscaler(monkeypatch, engine_file, cuda, slots=2) as up:
        for seed in range(5):
            up(make_picture(90, 90, seed))
        assert cuda.made["cudaStreamBeginCapture"] == 2
        assert cuda.made["cudaGraphLaunch"] > 10
    cuda = FakeRuntime()
    monkeypatch.setenv("SRSDK_CACHE", "")
    rtx = write_engine(engine_file.with_name("r.engine"), flavour="rtx")
    with open_upscaler(monkeypatch, rtx, cuda, flavour="rtx") as up:
        up(make_picture(90, 90))
    assert "cudaStreamBeginCapture" not in cuda.made


def test_a_failed_capture_is_logged_and_skipped(
    engine_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A library that cannot be captured still computes."""
    unsupported = CudaError.cudaErrorStreamCaptureUnsupported
    cuda = FakeRuntime(fail=lambda name, _: unsupported if "Instantiate" in name else None)
    picture = make_picture(60, 60)
    with open_upscaler(monkeypatch, engine_file, cuda) as up:
        np.testing.assert_array_equal(up(picture), nearest(picture))
    assert "no CUDA graph for (1, 32, 48, 3)" in caplog.text
    assert cuda.leaks() == []


def test_the_number_of_slots_is_measured_once(
    engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two to four slots, measured with the first slot of a shape."""
    cuda = FakeRuntime()
    with open_upscaler(monkeypatch, engine_file, cuda) as up:
        up(make_picture(200, 200))
        engine: Any = up._engine
        assert isinstance(engine, CudaEngine)
        wanted = engine.wanted_slots((1, 32, 48, 3))
        assert 2 <= wanted <= 4
        elapsed = cuda.made["cudaEventElapsedTime"]
        up(make_picture(200, 200))
        assert cuda.made["cudaEventElapsedTime"] == elapsed == 3
        assert len([k for k in cuda.kinds.values() if k == "pinned"]) == wanted


def test_many_threads(engine_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen calls from eight threads on one stream: kernels of two networks never interleave."""
    cuda = FakeRuntime(3)
    pictures = [make_picture(50 + index, 90, index) for index in range(16)]
    with open_upscaler(monkeypatch, engine_file, cuda, slots=3) as up:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(up, pictures))
        for picture, result in zip(pictures, results, strict=True):
            np.testing.assert_array_equal(result, nearest(picture))
    assert cuda.leaks() == []


def test_fewer_slots_where_memory_is_short(
    engine_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The second slot does not fit: logged once, and the picture is right."""
    input_bytes = 32 * 48 * 3
    cuda = FakeRuntime(total_bytes=9 * input_bytes)
    picture = make_picture(150, 150)
    with open_upscaler(monkeypatch, engine_file, cuda, slots=4) as up:
        for _ in range(3):
            np.testing.assert_array_equal(up(picture), nearest(picture))
    assert caplog.text.count("continuing with 1 slot(s)") == 1
    assert cuda.leaks() == []


def test_smaller_tiles_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The larger profile does not fit: logged once, and the smaller one is used from then on."""
    path = write_engine(tmp_path / "x.engine", (1, 64, 64), (1, 32, 32), (4, 32, 32))
    cuda = FakeRuntime(total_bytes=20 * 32 * 32 * 3)
    picture = make_picture(150, 150)
    with open_upscaler(monkeypatch, path, cuda) as up:
        for _ in range(3):
            np.testing.assert_array_equal(up(picture), nearest(picture))
        assert up.plan(150, 150).tile_px == (32, 32)
    assert caplog.text.count("continuing with inputs of 1x32x32x3") == 1
    assert cuda.leaks() == []


def test_no_memory_at_all_is_a_clear_error(
    engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names bytes, device and what was tried; nothing stays allocated."""
    cuda = FakeRuntime(total_bytes=1000)
    picture = make_picture(150, 150)
    with open_upscaler(monkeypatch, engine_file, cuda) as up:
        with pytest.raises(
            srsdk.OutOfMemoryError, match=r"18,432 bytes on cuda:0.*no smaller tile"
        ):
            up(picture)
        assert cuda.used_bytes == 0
    assert cuda.leaks() == []


def test_close_while_a_slot_is_lent(engine_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compute stream outlives the slot that computes on it; nothing leaks."""
    cuda = FakeRuntime()
    up = open_upscaler(monkeypatch, engine_file, cuda)

    def close(done: int, total: int) -> None:
        another = threading.Thread(target=up.close)
        another.start()
        another.join()

    picture = make_picture(100, 100)
    np.testing.assert_array_equal(up(picture, progress=close), nearest(picture))
    assert cuda.leaks() == []
    with pytest.raises(srsdk.BackendError, match="closed"):
        up(picture)


def test_a_context_that_is_refused(engine_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's message is quoted; out of memory is recognized by its text."""
    from tests.srsdk import gpu_fixtures

    cuda = FakeRuntime()
    modules: list[Any] = []
    real = gpu_fixtures.use_fakes

    def keep(*arguments: Any) -> Any:
        modules.append(real(*arguments))
        return modules[-1]

    monkeypatch.setattr(gpu_fixtures, "use_fakes", keep)
    with open_upscaler(monkeypatch, engine_file, cuda) as up:
        modules[0].refuse_context_at = 1
        with pytest.raises(srsdk.OutOfMemoryError, match="no room for a context"):
            up(make_picture(20, 20))
    assert cuda.leaks() == []


@pytest.mark.parametrize("nchw", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_plain_plan_opens_by_inspection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, nchw: bool
) -> None:
    """Without a manifest (trtexec, Polygraphy), layout, type and the optimal shape are inferred."""
    dynamic = ((1, 16, 16), (2, 64, 96), (4, 128, 128))
    path = tmp_path / "plain.engine"
    write_engine(path, dynamic, plain=True, dtype=dtype, nchw=nchw, scale=3)
    cuda = FakeRuntime()
    picture = make_picture(100, 130)
    with open_upscaler(monkeypatch, path, cuda) as up:
        m = up.manifest
        assert (m.scale, m.dtype, m.layout) == (3, dtype, "NCHW" if nchw else "NHWC")
        assert (m.size_px, m.profiles) == ((64, 96), ((2, 64, 96),))
        np.testing.assert_array_equal(up(picture), nearest(picture, 3))
    assert cuda.leaks() == []


def test_a_plain_plan_of_another_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """float16 input and output is rejected with one message, and nothing leaks."""
    path = write_engine(tmp_path / "p.engine", plain=True, dtype="float16")
    cuda = FakeRuntime()
    with pytest.raises(srsdk.ModelError, match="maps half to half, expected uint8"):
        open_upscaler(monkeypatch, path, cuda)
    assert cuda.leaks() == []
