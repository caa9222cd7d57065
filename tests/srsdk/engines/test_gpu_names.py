"""Check that every name that srsdk calls on a GPU library exists in the real library.

The fakes define all names that the runtime calls in the tests of slots and opening; these tests
look up each of them in the real modules.
"""

from __future__ import annotations

import enum
import importlib.util
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from srsdk.engines.cuda import device as memory_layer
from tests.fakes import tensorrt as faketrt
from tests.fakes.cuda import CudaError, FakeRuntime

LISTING = Path(__file__).with_name("tensorrt_11.4_names.json")


def names_of(kind: type) -> set[str]:
    """Return the public names of a fake class, or the members of an enumeration."""
    if issubclass(kind, enum.Enum):
        return set(kind.__members__)
    fields = {name for name in vars(kind) if not name.startswith("_")}
    source = inspect.getsource(kind)
    public = (line.split("self.")[1].split(":")[0].split(" ")[0] for line in source.splitlines()
              if line.strip().startswith("self.") and ": Any = None" in line)  # fmt: skip
    return fields | {name for name in public if not name.startswith("_")}


def test_the_names_of_cuda_bindings() -> None:
    """Functions, constants and error codes of the memory layer exist in the real module."""
    real = pytest.importorskip("cuda.bindings.runtime", reason="pip install cuda-bindings")
    used = {name for name in dir(FakeRuntime) if name.startswith("cuda")}
    assert len(used) > 30
    assert used <= set(dir(real))
    assert set(CudaError.__members__) <= set(real.cudaError_t.__members__)
    for member in CudaError:
        assert int(getattr(real.cudaError_t, member.name)) == member
    for kinds in ("cudaMemcpyKind", "cudaStreamCaptureMode"):
        for name, value in getattr(FakeRuntime, kinds).__members__.items():
            assert int(getattr(getattr(real, kinds), name)) == value
    for name in ("cudaStreamNonBlocking", "cudaEventBlockingSync", "cudaHostAllocPortable",
                 "cudaHostAllocWriteCombined"):  # fmt: skip
        assert int(getattr(real, name)) == getattr(FakeRuntime, name)
    assert int(real.cudaStreamLegacy) == memory_layer.LEGACY_STREAM


def test_the_calls_of_the_memory_layer_have_the_right_arguments() -> None:
    """Without a driver the real functions return an error code and raise no TypeError."""
    real = pytest.importorskip("cuda.bindings.runtime", reason="pip install cuda-bindings")
    if real.cudaGetDeviceCount()[0] == 0:
        pytest.skip("there is a GPU: invalid handles would crash; the gpu tests use real ones")
    kind = real.cudaMemcpyKind.cudaMemcpyDefault
    mode = real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    calls = [
        real.cudaSetDevice(0), real.cudaGetDevice(), real.cudaGetDeviceProperties(0),
        real.cudaMemGetInfo(), real.cudaStreamCreateWithFlags(real.cudaStreamNonBlocking),
        real.cudaEventCreateWithFlags(real.cudaEventBlockingSync), real.cudaMalloc(16),
        real.cudaHostAlloc(16, real.cudaHostAllocPortable | real.cudaHostAllocWriteCombined),
        real.cudaMemcpyAsync(1, 2, 3, kind, 4),
        real.cudaMemcpy2DAsync(1, 2, 3, 4, 2, 6, kind, 8), real.cudaMemsetAsync(1, 0, 3, 4),
        real.cudaEventRecord(1, 2), real.cudaStreamWaitEvent(1, 2, 0),
        real.cudaEventSynchronize(1), real.cudaStreamSynchronize(1),
        real.cudaEventElapsedTime(1, 2), real.cudaStreamBeginCapture(1, mode),
        real.cudaStreamEndCapture(1), real.cudaGraphInstantiate(1, 0), real.cudaGraphLaunch(1, 2),
        real.cudaFree(1), real.cudaFreeHost(1), real.cudaGraphExecDestroy(1),
    ]  # fmt: skip
    assert {call[0].name for call in calls} == {"cudaErrorInsufficientDriver"}


def test_the_names_of_tensorrt_rtx() -> None:
    """Classes, methods and members exist in the real module."""
    real = pytest.importorskip("tensorrt_rtx", reason="pip install 'srsdk[rtx]'")
    for kind in faketrt.make_module("rtx", FakeRuntime()).classes:
        assert names_of(kind) <= set(dir(getattr(real, kind.__name__))), kind.__name__
    context = real.IRuntimeConfig
    for name in ("cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"):
        assert isinstance(getattr(context, name), property)


def test_the_names_of_tensorrt() -> None:
    """The same for plain TensorRT, from a listing, because its wheel needs GPU libraries.

    The listing is `dir()` of each class of `tensorrt_bindings` 11.4.0.106 (PyPI wheel
    tensorrt-cu13-bindings), loaded with empty stubs of the libraries that it links.
    """
    if importlib.util.find_spec("tensorrt") is not None:
        import tensorrt

        real: dict[str, Any] = {name: dir(getattr(tensorrt, name)) for name in dir(tensorrt)}
    else:
        real = json.loads(LISTING.read_text(encoding="utf-8"))
    for kind in faketrt.make_module("tensorrt", FakeRuntime()).classes:
        assert names_of(kind) <= set(real[kind.__name__]), kind.__name__
    assert "create_runtime_cache" not in real["IRuntimeConfig"]
    assert "get_engine_validity" not in real["Runtime"]


def test_the_names_of_onnxruntime() -> None:
    """Names of the GPU path that the other tests do not call for real."""
    import onnxruntime as ort

    assert callable(ort.preload_dlls)
    assert callable(ort.get_available_providers)
    assert "get_providers" in dir(ort.InferenceSession)
