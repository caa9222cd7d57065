"""Tests that need a real GPU; `python -m benchmarks gpu-check` runs them and also measures."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srsdk
from srsdk.engines.cuda.device import Device, view
from tests.conftest import make_picture

pytestmark = pytest.mark.gpu


@pytest.fixture
def device() -> Device:
    """Return the first GPU, or skip the test."""
    try:
        return Device(0)
    except srsdk.SrsdkError as error:
        pytest.skip(f"needs a GPU: {error}")


@pytest.fixture
def nearest(device: Device) -> Iterator[Any]:
    """Run nearest-neighbor in PyTorch through srsdk's slots."""
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("needs PyTorch with CUDA")
    from benchmarks.gpu.measure import Runner, manifest_for
    from benchmarks.gpu.torch_engine import Nearest, open_torch

    run = Runner(open_torch(Nearest()), manifest_for("nearest", 2, 3), tile=64)
    yield run
    run.close()


def test_the_real_memory_layer(device: Device) -> None:
    """Every call works: memory, copies in all directions, events, a captured graph, timings."""
    from benchmarks.gpu.measure import pinned_content

    assert device.properties.sm >= 50
    assert pinned_content(device)
    with device.active():
        stream, event, later = device.stream(), device.event(timed=True), device.event(timed=True)
        memory, host = device.allocate(4096), device.pinned(4096)
        s = stream.handle
        content = view(host, (64, 64), "uint8")
        content[...] = 7
        graph = device.capture(s, lambda: device.clear(memory.handle, 4096, s))
        device.copy_in(memory.handle, host.handle, 4096, s)
        device.record(event.handle, s)
        device.launch(graph.handle, s)
        device.copy_rows((memory.handle, 64), (memory.handle + 2048, 64), 32, 4, s)
        device.copy_out(host.handle, memory.handle, 4096, s)
        device.record(later.handle, s)
        device.order(s, later.handle)
        device.wait(later.handle)
        assert device.elapsed_ms(event.handle, later.handle) > 0
        assert not content.any()
        for one in (graph, memory, host, event, later, stream):
            one.close()


def test_real_errors_are_translated(device: Device) -> None:
    """Out of memory and an invalid handle; the device works afterwards."""
    with device.active():
        with pytest.raises(srsdk.OutOfMemoryError, match="bytes on cuda:0"):
            device.allocate(1 << 50)
        with pytest.raises(srsdk.BackendError, match="CUDA failed on cuda:0: CUDA_ERROR"):
            device.copy_in(0, 0, 16, 0)
        device.allocate(1024).close()


@pytest.mark.parametrize("size", [(1, 1), (63, 200), (500, 333)])
def test_slots_on_the_gpu(nearest: Any, size: tuple[int, int]) -> None:
    """Exact results from numpy and from a tensor, with CUDA graphs."""
    picture = make_picture(*size)
    expected = picture.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(nearest(picture), expected)
    import torch.utils.dlpack

    tensor = torch.from_numpy(picture).cuda()
    there = torch.utils.dlpack.from_dlpack(nearest.on_device(tensor))
    np.testing.assert_array_equal(there.cpu().numpy(), expected)
    out = torch.empty(expected.shape, dtype=torch.uint8, device="cuda")
    assert nearest.on_device(tensor, out) is out
    np.testing.assert_array_equal(out.cpu().numpy(), expected)


def test_the_callers_stream_is_kept(nearest: Any) -> None:
    """Pending work on the caller's stream is waited for; later work sees the result."""
    import torch as untyped

    from srsdk.scheduling.context import Call

    torch: Any = untyped
    picture = make_picture(300, 300)
    # already there: a copy from pageable memory would wait by itself and hide a missing order
    content = torch.from_numpy(picture).cuda()
    torch.cuda.synchronize()
    mine = torch.cuda.Stream()
    with torch.cuda.stream(mine):
        tensor = torch.zeros(picture.shape, dtype=torch.uint8, device="cuda")
        torch.cuda._sleep(50_000_000)
        tensor.copy_(content)
        made = nearest.pipeline.upscale_on_gpu(tensor, None, mine, Call())
        twice = torch.from_dlpack(made) // 2
    mine.synchronize()
    expected = picture.repeat(2, axis=0).repeat(2, axis=1) // 2
    np.testing.assert_array_equal(twice.cpu().numpy(), expected)


@pytest.mark.parametrize("library", ["cupy", "numba", "jax"])
def test_neighbors_on_the_gpu(nearest: Any, library: str) -> None:
    """CuPy, Numba and JAX exchange arrays with srsdk without a copy to the host."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}")
    picture = make_picture(100, 120)
    expected = picture.repeat(2, axis=0).repeat(2, axis=1)
    if library == "cupy":
        import cupy

        result = cupy.asnumpy(cupy.from_dlpack(nearest.on_device(cupy.asarray(picture))))
    elif library == "numba":
        from numba import cuda

        result = cuda.as_cuda_array(nearest.on_device(cuda.to_device(picture))).copy_to_host()
    else:
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import jax

        made = nearest.on_device(jax.device_put(picture))
        result = np.asarray(jax.dlpack.from_dlpack(made))
    np.testing.assert_array_equal(result, expected)


def test_another_stream_reads_in_order(nearest: Any) -> None:
    """A reader on a side stream of PyTorch sees the result of work that is late on the default one.

    Without `stream=`, srsdk takes the stream on which PyTorch works at the moment.
    """
    import torch as untyped

    torch: Any = untyped
    picture = make_picture(300, 300)
    content = torch.from_numpy(picture).cuda()
    expected = picture.repeat(2, axis=0).repeat(2, axis=1)
    first, second = torch.cuda.Stream(), torch.cuda.Stream()
    torch.cuda.synchronize()
    for _ in range(10):
        with torch.cuda.stream(first):
            tensor = torch.zeros(picture.shape, dtype=torch.uint8, device="cuda")
            torch.cuda._sleep(20_000_000)
            tensor.copy_(content)
            made = nearest.on_device(tensor)
        with torch.cuda.stream(second):
            seen = torch.from_dlpack(made).clone()
            del made
            torch.zeros(expected.shape, dtype=torch.uint8, device="cuda")
        second.synchronize()
        np.testing.assert_array_equal(seen.cpu().numpy(), expected)
        torch.cuda.synchronize()


def test_close_frees_all_memory(device: Device) -> None:
    """A hundred cycles of open, use and close lose no GPU memory, except PyTorch's own."""
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("needs PyTorch with CUDA")
    from benchmarks.gpu.sections import check_memory_release

    assert check_memory_release(device)["lost"] <= 1 << 20


def test_onnxruntime_on_the_gpu(device: Device) -> None:
    """The shipped models are within 2 LSB of the CPU; skip if the GPU build is missing."""
    import onnxruntime as ort

    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("needs the GPU build of ONNX Runtime: pip install 'srsdk[cuda]'")
    picture = make_picture(300, 400)
    with srsdk.Upscaler("gan_x4", device="cpu", backend="onnxruntime", precision="fp32") as up:
        expected = up(picture)
    with srsdk.Upscaler("gan_x4", device="cuda:0") as up:
        for _ in range(3):
            assert np.abs(up(picture).astype(int) - expected).max() <= 2


def test_tensorrt_rtx_on_the_gpu(device: Device, real_engine: Path) -> None:
    """An engine built here is within 2 LSB of the CPU; skip if it does not support this GPU."""
    try:
        opened = srsdk.Upscaler(real_engine)
    except srsdk.EngineMismatch as error:
        pytest.skip(str(error))
    picture = make_picture(200, 150)
    with srsdk.Upscaler("gan_x2", device="cpu", precision="fp32") as up:
        expected = up(picture)
    with opened as up:
        for _ in range(3):
            assert np.abs(up(picture).astype(int) - expected).max() <= 2
        assert up.plan(200, 150).fits
