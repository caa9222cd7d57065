"""Pictures in GPU memory: exchanged without copies, in stream order, whatever the streams do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import srsdk
from srsdk.engines.cuda import dlpack
from srsdk.engines.cuda.arrays import DeviceArray, borrow, is_on_gpu
from srsdk.engines.cuda.device import Device
from tests.conftest import make_picture
from tests.simulated.fixtures import OnGpu, OnGpuByDlpack, open_upscaler, read, write_engine
from tests.simulators.cuda import Simulator

CONSUMED = b"used_dltensor"
"""The name of a capsule whose tensor a consumer has taken."""


@pytest.fixture
def engine_file(tmp_path: Path) -> Path:
    """An engine file with one profile of 1x32x48."""
    return write_engine(tmp_path / "x.engine")


@contextmanager
def side_stream() -> Iterator[int]:
    """Make a stream that does not wait for the default stream, as PyTorch's."""
    device = Device(0)
    with device.active():
        made = device.stream()
    try:
        yield made.handle
    finally:
        with device.active():
            made.close()


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    slots=st.integers(1, 8),
    batch=st.sampled_from([1, 3]),
    multiple=st.sampled_from([1, 4]),
    size=st.tuples(st.integers(1, 80), st.integers(1, 110)),
    pitch=st.sampled_from([0, 512]),
    own=st.booleans(),
    mine=st.booleans(),
)
def test_device_to_device_equals_the_host_path(
    gpu: Simulator, tmp_path_factory: pytest.TempPathFactory, seed: int, slots: int, batch: int,
    multiple: int, size: tuple[int, int], pitch: int, own: bool, mine: bool,
) -> None:  # fmt: skip
    """Exact for any size, pitch, batch, slots, stream and delay; the stream order is kept.

    The picture arrives late on the caller's stream, and the result is read on it at once.
    """
    gpu.reset(seed)
    path = tmp_path_factory.mktemp("e") / "x.engine"
    write_engine(path, (batch, 32, 48), manifest={"multiple_px": multiple})
    picture = make_picture(*size)
    with (
        pytest.MonkeyPatch.context() as patch,
        open_upscaler(patch, path, gpu, slots=slots) as up,
        side_stream() as side,
    ):
        expected = up(picture)
        stream = side if mine else 1
        given_stream = stream if mine else None
        source = OnGpu(gpu, picture, stream=stream, pitch=pitch)
        if own:
            target = OnGpu(gpu, np.zeros_like(expected), stream=stream)
            assert up(source, out=target, stream=given_stream) is target
            result = target.read(stream)
            target.close()
        else:
            made = up(source, stream=given_stream)
            result = read(gpu, made, stream)
            made.close()
        np.testing.assert_array_equal(result, expected)
        np.testing.assert_array_equal(up(picture), expected)
        source.close()
    assert gpu.violations() == []
    assert gpu.leaks() == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), how=st.sampled_from(["dlpack", "interface"]))
def test_a_reader_on_another_stream_waits(
    gpu: Simulator, tmp_path_factory: pytest.TempPathFactory, seed: int, how: str
) -> None:
    """The result is complete for a consumer that names its stream, or waits for ours.

    Freed at once, its memory is not given to others before the reader has read it.
    """
    gpu.reset(seed)
    path = write_engine(tmp_path_factory.mktemp("e") / "x.engine")
    picture = make_picture(50, 70)
    with (
        pytest.MonkeyPatch.context() as patch,
        open_upscaler(patch, path, gpu) as up,
        side_stream() as mine,
        side_stream() as readers,
    ):
        expected = up(picture)
        source = OnGpu(gpu, picture, stream=mine)
        made = up(source)
        assert made.__cuda_array_interface__["stream"] == mine, "the stream of its producer"
        seen = _late_copy(gpu, made, readers, how)
        made.close()
        again = up(source)
        again.close()
        np.testing.assert_array_equal(seen.read(readers), expected)
        for one in (source, seen):
            one.close()
    assert gpu.violations() == []
    assert gpu.leaks() == []


def _late_copy(gpu: Simulator, array: DeviceArray, stream: int, how: str) -> OnGpu:
    """Enqueue a copy of an array on a stream, as a consumer of either protocol does."""
    device = Device(0)
    target = OnGpu(gpu, np.zeros(array.shape, np.uint8), stream=stream)
    line = array.shape[1] * array.shape[2]
    capsule = None
    with device.active():
        if how == "dlpack":
            capsule = array.__dlpack__(stream=stream)
        else:
            event = device.event()
            device.record(event.handle, array.__cuda_array_interface__["stream"])
            device.order(stream, event.handle)
            event.close()
        device.copy_rows(
            (target.address, line), (array.address, line), line, array.shape[0], stream
        )
    del capsule
    return target


def test_a_reader_that_orders_its_work_itself(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stream -1 waits for nothing; None and 1 are the legacy default stream, 2 the thread's."""
    with (
        open_upscaler(monkeypatch, engine_file, gpu) as up,
        side_stream() as mine,
    ):
        source = OnGpu(gpu, make_picture(30, 40), stream=mine)
        made = up(source)
        waits = {}
        for stream in (-1, mine, None, 1, 2):
            before = gpu.made("cuStreamWaitEvent")
            made.__dlpack__(stream=stream, max_version=(1, 1))
            waits[stream] = gpu.made("cuStreamWaitEvent") - before
        assert waits == {-1: 0, mine: 0, None: 1, 1: 1, 2: 1}
        for refused in ({"copy": True}, {"dl_device": (1, 0)}):
            with pytest.raises(BufferError, match="without a copy"):
                made.__dlpack__(**refused)
        made.close()
        with pytest.raises(srsdk.UsageError, match="closed"):
            _ = made.address
        with pytest.raises(srsdk.UsageError, match="closed"):
            made.__dlpack__()
        with pytest.raises(srsdk.UsageError, match="closed"):
            up(source, out=made)
        source.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), named=st.booleans())
def test_a_producer_on_its_own_stream(
    gpu: Simulator, tmp_path_factory: pytest.TempPathFactory, seed: int, named: bool
) -> None:
    """DLPack comes before the interface that names no stream: the producer orders its work.

    So it is for the buffer that receives the result.
    """
    gpu.reset(seed)
    path = write_engine(tmp_path_factory.mktemp("e") / "x.engine")
    picture = make_picture(50, 70)
    with (
        pytest.MonkeyPatch.context() as patch,
        open_upscaler(patch, path, gpu) as up,
        side_stream() as theirs,
        side_stream() as mine,
    ):
        expected = up(picture)
        source = OnGpuByDlpack(gpu, picture, stream=theirs)
        target = OnGpuByDlpack(gpu, np.zeros_like(expected), stream=theirs)
        stream = mine if named else 1
        up(source, out=target, stream=mine if named else None)
        np.testing.assert_array_equal(target.read(stream), expected)
        for one in (source, target):
            one.close()
    assert gpu.violations() == []


def test_a_result_is_the_next_ones_source(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays of srsdk go in and out on any stream, as source and as target."""
    picture = make_picture(20, 30)
    with (
        open_upscaler(monkeypatch, engine_file, gpu) as up,
        side_stream() as first,
        side_stream() as second,
    ):
        expected = up(up(picture))
        source = OnGpu(gpu, picture, stream=first)
        small = up(source)
        large = up(small, stream=second)
        np.testing.assert_array_equal(read(gpu, large, second), expected)
        up(small, out=large)
        np.testing.assert_array_equal(read(gpu, large, first), expected)
        for one in (small, large, source):
            one.close()


def test_nothing_waits_and_nothing_is_allocated(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the output check of the first picture, a call never blocks.

    Memory comes from the pool in stream order: `cuMemAlloc` and `cuMemFree` wait for the device.
    """
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        source = OnGpu(gpu, make_picture(90, 90))
        up(source).close()
        gpu.log()
        up(source).close()
        up(source).close()
        calls = set(gpu.log())
        assert "cuMemAllocFromPoolAsync" in calls
        waiting = {
            "cuStreamSynchronize", "cuEventSynchronize", "cuCtxSynchronize", "cuMemAlloc",
            "cuMemFree", "cuMemHostAlloc", "cuMemFreeHost", "cuMemcpyDtoHAsync",
        }  # fmt: skip
        assert not waiting & calls
        source.close()


def test_memory_of_the_pool_counts_as_free(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the pool keeps for the next picture is free for slots, and `close` gives it back."""
    device = Device(0)
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        source = OnGpu(gpu, make_picture(900, 900))
        up(source).close()
        with device.active():
            device.synchronize()
            held = int(driver.cuMemGetInfo()[1])
            assert device.memory()[0] == held + 1800 * 1800 * 3
        source.close()
    with device.active():
        assert int(driver.cuMemGetInfo()[1]) == device.memory()[0]


def test_slots_get_what_the_pool_keeps(
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that only the pool of arrays holds goes back to the driver before a slot is made."""
    engine_file = write_engine(tmp_path / "x.engine", (1, 32, 48), (1, 600, 600))
    pixels = 900 * 900 * 3
    gpu.reset(total_bytes=6 * pixels)
    with open_upscaler(monkeypatch, engine_file, gpu, batch=1) as up:
        engine: Any = up._engine
        source = OnGpu(gpu, make_picture(900, 900))
        up(source).close()
        with Device(0).active():
            Device(0).synchronize()
        assert ("pool", 4 * pixels) not in gpu.memory()
        engine.slot((1, 600, 600, 3)).close()
        source.close()


def test_a_capturing_stream_is_refused(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call cannot be part of a graph: one sentence, and the capture goes on undisturbed."""
    cuda: Any = driver
    device = Device(0)
    mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
    with open_upscaler(monkeypatch, engine_file, gpu) as up, side_stream() as mine:
        source = OnGpu(gpu, make_picture(30, 40), stream=mine)
        up(source).close()
        with device.active():
            device.drain(mine)
            cuda.cuStreamBeginCapture(mine, mode)
        with pytest.raises(srsdk.UsageError, match="is capturing a CUDA graph"):
            up(source)
        with device.active():
            error, graph = cuda.cuStreamEndCapture(mine)
            assert error == 0
            cuda.cuGraphDestroy(graph)
        up(source).close()
        source.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"typestr": "<f4"}, "type <f4, expected"),
        ({"shape": (20, 30)}, r"shape \(20, 30\)"),
        ({"shape": (20, 30, 4)}, r"shape \(20, 30, 4\)"),
        ({"strides": (1, 20, 600)}, "strides"),
        ({"strides": (-90, 3, 1)}, "strides"),
        ({"shape": (20, 30, 1), "strides": None}, r"got 1 channel\(s\), expected 3"),
    ],
)
def test_invalid_gpu_pictures_are_rejected(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any],
    words: str,
) -> None:  # fmt: skip
    """Type, shape and strides are checked before any work."""
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        source = OnGpu(gpu, make_picture(20, 30))
        wrong = SimpleNamespace(
            __cuda_array_interface__={**source.__cuda_array_interface__, **change}
        )
        with pytest.raises(srsdk.PictureError, match=words):
            up(wrong)
        target = OnGpu(gpu, np.zeros((40, 59, 3), np.uint8))
        with pytest.raises(srsdk.PictureError, match="out is 40x59, expected 40x60"):
            up(source, out=target)
        target.close()
        source.close()


def test_a_gpu_array_needs_a_gpu_and_bytes(
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU or with a float model, the error gives the fix."""
    source = OnGpu(gpu, make_picture(20, 30))
    with (
        srsdk.Upscaler("gan_x2", device="cpu") as up,
        pytest.raises(srsdk.BackendError, match=r"runs on cpu: Upscaler\(..., device='cuda:0'\)"),
    ):
        up(source)
    path = write_engine(tmp_path / "f.engine", manifest={"dtype": "float32"}, dtype="float32")
    with (
        open_upscaler(monkeypatch, path, gpu) as up,
        pytest.raises(srsdk.PictureError, match="needs a uint8 NHWC model"),
    ):
        up(source)
    source.close()


def test_dlpack_of_another_gpu_is_rejected(gpu: Simulator) -> None:
    """The device is checked before the tensor."""
    device = Device(0)
    made = DeviceArray(device, (4, 5, 3), None)
    assert is_on_gpu(made)
    with device.active():
        assert borrow(made, device, 1).pitch_bytes == 15

    class Elsewhere:
        def __dlpack_device__(self) -> tuple[int, int]:
            return dlpack.CUDA, 1

    with pytest.raises(srsdk.PictureError, match=r"on device 1 .*, this runs on cuda:0"):
        borrow(Elsewhere(), device, 1)
