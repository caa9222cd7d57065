"""Interop with other array libraries: exchange without copies, in stream order."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import srsdk
from srsdk.engines.cuda import dlpack
from srsdk.engines.cuda.arrays import DeviceArray, borrow, is_on_gpu, stream_handle
from srsdk.engines.cuda.device import Device
from tests.conftest import Picture, make_picture
from tests.fakes.cuda import FakeRuntime
from tests.srsdk.gpu_fixtures import OnGpu, open_upscaler, write_engine


def seen_at(cuda: FakeRuntime, array: DeviceArray, stream: int = 1) -> Picture:
    """Read a `DeviceArray` on a stream."""
    view = OnGpu.__new__(OnGpu)
    view.cuda, view.shape, view.address = cuda, array.shape, array.address
    view.pitch = array.shape[1] * array.shape[2]
    return view.read(stream)


@settings(max_examples=60)
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
    tmp_path_factory: pytest.TempPathFactory, seed: int, slots: int, batch: int, multiple: int,
    size: tuple[int, int], pitch: int, own: bool, mine: bool,
) -> None:  # fmt: skip
    """Exact for any size, pitch, batch, slots, stream and delay; the stream order is kept.

    The picture arrives late on the caller's stream, and the result is read on it at once.
    """
    cuda = FakeRuntime(seed)
    path = tmp_path_factory.mktemp("e") / "x.engine"
    write_engine(path, (batch, 32, 48), manifest={"multiple_px": multiple})
    picture = make_picture(*size)
    with (
        pytest.MonkeyPatch.context() as patch,
        open_upscaler(patch, path, cuda, slots=slots) as up,
    ):
        expected = up(picture)
        stream = cuda.cudaStreamCreateWithFlags(1)[1] if mine else 1
        given_stream = stream if mine else None
        source = OnGpu(cuda, picture, stream=stream, pitch=pitch)
        if own:
            target = OnGpu(cuda, np.zeros_like(expected), stream=stream)
            assert up(source, out=target, stream=given_stream) is target
            result = target.read(stream)
            cuda.cudaFree(target.address)
        else:
            made = up(source, stream=given_stream)
            result = seen_at(cuda, made, stream)
            made.close()
        np.testing.assert_array_equal(result, expected)
        np.testing.assert_array_equal(up(picture), expected)
        cuda.cudaFree(source.address)
        if mine:
            cuda.cudaStreamDestroy(stream)
    assert cuda.leaks() == []


def test_nothing_is_copied_to_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the output check of the first picture, a call never blocks."""
    cuda = FakeRuntime()
    with open_upscaler(monkeypatch, write_engine(tmp_path / "x.engine"), cuda) as up:
        source = OnGpu(cuda, make_picture(90, 90))
        up(source).close()
        cuda.log.clear()
        made = up(source)
        quiet = {
            "cudaStreamSynchronize",
            "cudaEventSynchronize",
            "cudaMemcpyAsync",
            "cudaHostAlloc",
        }
        assert not quiet & set(cuda.log)
        made.close()
        cuda.cudaFree(source.address)
    assert cuda.leaks() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"typestr": "<f4"}, "type <f4, expected"),
        ({"shape": (20, 30)}, r"shape \(20, 30\)"),
        ({"shape": (20, 30, 4)}, r"shape \(20, 30, 4\)"),
        ({"strides": (1, 20, 600)}, "strides"),
        ({"strides": (-90, 3, 1)}, "strides"),
        ({"shape": (20, 30, 1), "strides": None}, r"got 1 channel"),
    ],
)
def test_invalid_gpu_pictures_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], words: str
) -> None:
    """Type, shape and strides are checked before any work."""
    cuda = FakeRuntime()
    with open_upscaler(monkeypatch, write_engine(tmp_path / "x.engine"), cuda) as up:
        source = OnGpu(cuda, make_picture(20, 30))
        wrong = SimpleNamespace(
            __cuda_array_interface__={**source.__cuda_array_interface__, **change}
        )
        with pytest.raises(srsdk.PictureError, match=words):
            up(wrong)
        target = OnGpu(cuda, np.zeros((40, 59, 3), np.uint8))
        with pytest.raises(srsdk.PictureError, match="out is 40x59, expected 40x60"):
            up(source, out=target)


def test_a_gpu_array_needs_a_gpu_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU or with a float model, the error gives the fix."""
    cuda = FakeRuntime()
    source = OnGpu(cuda, make_picture(20, 30))
    with (
        srsdk.Upscaler("gan_x2") as up,
        pytest.raises(srsdk.BackendError, match=r"runs on cpu: Upscaler\(..., device='cuda:0'\)"),
    ):
        up(source)
    path = write_engine(tmp_path / "f.engine", manifest={"dtype": "float32"}, dtype="float32")
    with (
        open_upscaler(monkeypatch, path, cuda) as up,
        pytest.raises(srsdk.PictureError, match="needs a uint8 NHWC model"),
    ):
        up(source)


def test_streams_of_all_libraries() -> None:
    """Integers, the protocol as method or property, torch, PyCUDA, CuPy; 0 and None: default."""
    assert [stream_handle(s) for s in (None, 0, 1, 77)] == [1, 1, 1, 77]
    assert stream_handle(SimpleNamespace(__cuda_stream__=lambda: (0, 78))) == 78
    assert stream_handle(SimpleNamespace(__cuda_stream__=(0, 79))) == 79
    for name in ("cuda_stream", "handle", "ptr"):
        assert stream_handle(SimpleNamespace(**{name: 80})) == 80
    assert stream_handle(SimpleNamespace(cuda_stream=0)) == 1
    for wrong in ("0", -1, True, object()):
        with pytest.raises(srsdk.UsageError, match="expected an integer handle"):
            stream_handle(wrong)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_dlpack_borrows_from_real_libraries(name: str) -> None:
    """Address, shape, strides and device of numpy's and torch's capsules, which stay alive."""
    library = pytest.importorskip(name, reason=f"needs {name}")
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    tensor = pixels.copy() if library is np else library.from_numpy(pixels.copy())
    view = tensor[:, 1:]
    found = dlpack.borrow(view, None)
    assert (found.shape, found.strides, found.device[0]) == ((2, 2, 3), (9, 3, 1), dlpack.CPU)
    import ctypes

    del tensor, view
    gc.collect()
    raw = (ctypes.c_uint8 * 15).from_address(found.address)
    assert bytes(raw)[:6] == pixels[0, 1:].tobytes()
    wide = library.zeros((2, 2, 3))
    with pytest.raises(srsdk.PictureError, match="expected uint8"):
        dlpack.borrow(wide, None)


@pytest.mark.parametrize("name", ["numpy", "torch.utils.dlpack"])
def test_dlpack_lends_to_real_libraries(name: str) -> None:
    """They share the memory, and its owner lives until the last consumer is gone."""
    consumer = pytest.importorskip(name, reason=f"needs {name}").from_dlpack
    memory = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    address = memory.ctypes.data
    gone: list[bool] = []

    class Lender:
        """Exports CPU memory as a `DeviceArray` does."""

        def __dlpack__(self, **_: Any) -> Any:
            return dlpack.lend(address, (2, 4, 3), (dlpack.CPU, 0), self)

        def __dlpack_device__(self) -> tuple[int, int]:
            return dlpack.CPU, 0

        def __del__(self) -> None:
            gone.append(True)

    before = len(dlpack._lent)
    tensor = consumer(Lender())
    gc.collect()
    assert (tuple(tensor.shape), gone) == ((2, 4, 3), [])
    assert int(tensor[1, 3, 2]) == 23
    del tensor
    gc.collect()
    assert gone == [True]
    unused = Lender().__dlpack__()
    assert len(dlpack._lent) == before + 1
    del unused
    gc.collect()
    assert len(dlpack._lent) == before
    assert gone == [True, True]


def test_dlpack_of_another_gpu_is_rejected() -> None:
    """The device is checked before the tensor."""
    device = Device(0, FakeRuntime())
    made = DeviceArray(device, (4, 5, 3))
    assert is_on_gpu(made)
    assert borrow(made, device, 1).pitch_bytes == 15

    class Elsewhere:
        def __dlpack_device__(self) -> tuple[int, int]:
            return dlpack.CUDA, 1

    with pytest.raises(srsdk.PictureError, match=r"on device 1 .*, this runs on cuda:0"):
        borrow(Elsewhere(), device, 1)


def test_what_is_on_the_cpu_is_not_on_a_gpu() -> None:
    """Arrays of numpy, paths, classes and other objects."""
    for thing in (np.zeros(3), "a.png", OnGpu, None, 3):
        assert not is_on_gpu(thing)


def test_a_tensor_on_the_cpu_is_not_on_a_gpu() -> None:
    """PyTorch's CPU tensors have the attribute `__cuda_array_interface__`, too."""
    assert not is_on_gpu(pytest.importorskip("torch", reason="needs torch").zeros(3))


def test_out_on_the_host() -> None:
    """A numpy buffer is filled in place; a wrong one is rejected before any work."""
    picture = make_picture(20, 30)
    with srsdk.Upscaler("gan_x2") as up:
        expected = up(picture)
        out = np.zeros((40, 60, 3), np.uint8)
        assert up(picture, out=out) is out
        np.testing.assert_array_equal(out, expected)
        for wrong in (np.zeros((40, 60, 3)), np.zeros((40, 61, 3), np.uint8), [1]):
            with pytest.raises(srsdk.PictureError, match=r"out is .*, expected a numpy array"):
                up(picture, out=wrong)
        frozen = out.copy()
        frozen.flags.writeable = False
        with pytest.raises(srsdk.PictureError, match="read-only"):
            up(picture, out=frozen)
        with pytest.raises(srsdk.UsageError, match="stream= goes with an array"):
            up(picture, stream=3)


def test_pycuda_in_and_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `GPUArray` gives a `GPUArray`; any context but the primary one is rejected.

    PyCUDA needs a driver even for its import, so a fake array class replaces it.
    """
    cuda = FakeRuntime()

    class GPUArray(OnGpu):
        dtype = np.dtype(np.uint8)

    module: Any = ModuleType("pycuda.gpuarray")
    GPUArray.__module__ = "pycuda.gpuarray"
    module.GPUArray = GPUArray
    module.empty = lambda shape, dtype: GPUArray(cuda, np.zeros(shape, np.uint8))
    parent: Any = ModuleType("pycuda")
    parent.gpuarray = module
    monkeypatch.setitem(sys.modules, "pycuda", parent)
    monkeypatch.setitem(sys.modules, "pycuda.gpuarray", module)
    driver: Any = pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-bindings")
    monkeypatch.setattr(driver, "cuCtxGetCurrent", lambda: (0, 7))
    monkeypatch.setattr(driver, "cuDevicePrimaryCtxRetain", lambda _: (0, 7))
    monkeypatch.setattr(driver, "cuDevicePrimaryCtxRelease", lambda _: (0,))
    picture = make_picture(50, 60)
    with open_upscaler(monkeypatch, write_engine(tmp_path / "x.engine"), cuda) as up:
        result = up(GPUArray(cuda, picture), stream=SimpleNamespace(handle=1))
        assert isinstance(result, GPUArray)
        np.testing.assert_array_equal(result.read(), up(picture))
        monkeypatch.setattr(driver, "cuCtxGetCurrent", lambda: (0, 8))
        with pytest.raises(srsdk.BackendError, match=r"import pycuda\.autoprimaryctx"):
            up(GPUArray(cuda, picture))
