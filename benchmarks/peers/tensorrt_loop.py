"""TensorRT alone, the loop that `trtexec` runs: copy in, enqueue, copy out, on one stream."""

from __future__ import annotations

import ctypes
import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.adapters import Job, Picture, Upscale

RTX_MAGIC = b"vtrt"


def open_it(job: Job) -> Upscale:
    """Open the engine of `job` with fixed shapes and pinned memory; it is never closed.

    Raises:
        RuntimeError: TensorRT or CUDA fails, or the engine has no profile for this size.
    """
    assert job.engine is not None
    plan = Path(job.engine).read_bytes()
    trt = importlib.import_module("tensorrt_rtx" if plan.startswith(RTX_MAGIC) else "tensorrt")
    return Loop(trt, plan, (1, job.height, job.width, 3))


class Loop:
    """One engine, one shape, one stream.

    Args:
        trt: `tensorrt` or `tensorrt_rtx`.
        plan: a serialized engine that takes (N, H, W, 3) uint8.
        shape: input shape.
    """

    def __init__(self, trt: Any, plan: bytes, shape: tuple[int, ...]) -> None:
        from cuda.bindings import driver

        self._cuda: Any = driver
        self._call(driver.cuInit(0))
        self._call(driver.cuCtxSetCurrent(self._call(driver.cuDevicePrimaryCtxRetain(0))))
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        self._engine = _checked(self._runtime.deserialize_cuda_engine(plan), "the engine")
        self._context = _checked(self._engine.create_execution_context(), "a context")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        source, target = inputs[0], next(name for name in names if name != inputs[0])
        self._stream = int(self._call(driver.cuStreamCreate(1)))  # non-blocking
        self._select(source, shape)
        large = tuple(self._context.get_tensor_shape(target))
        self._host_in, self._host_out = self._pinned(shape), self._pinned(large)
        self._in = int(self._call(driver.cuMemAlloc(self._host_in.nbytes)))
        self._out = int(self._call(driver.cuMemAlloc(self._host_out.nbytes)))
        for name, address in ((source, self._in), (target, self._out)):
            _checked(self._context.set_tensor_address(name, address), f"the address of {name}")

    def __call__(self, lr: Picture) -> Picture:
        """Upscale (H, W, 3) uint8."""
        self._host_in[0] = lr
        cuda, stream = self._cuda, self._stream
        source, target = self._host_in, self._host_out
        self._call(cuda.cuMemcpyHtoDAsync(self._in, source.ctypes.data, source.nbytes, stream))
        _checked(self._context.execute_async_v3(stream), "the computation")
        self._call(cuda.cuMemcpyDtoHAsync(target.ctypes.data, self._out, target.nbytes, stream))
        self._call(cuda.cuStreamSynchronize(stream))
        result: Picture = self._host_out[0].copy()
        return result

    def _select(self, name: str, shape: tuple[int, ...]) -> None:
        """Select the optimization profile that covers the shape."""
        ranges = [
            self._engine.get_tensor_profile_shape(name, index)
            for index in range(self._engine.num_optimization_profiles)
        ]
        fitting = [
            index
            for index, (low, _, high) in enumerate(ranges)
            if all(a <= side <= b for a, side, b in zip(low, shape, high, strict=True))
        ]
        if not fitting:
            height, width = shape[1:3]
            raise RuntimeError(
                f"the engine has no profile for a {width}x{height} picture, only {ranges}; "
                f"export it with --profiles 1x{height}x{width}"
            )
        chosen = self._context.set_optimization_profile_async(fitting[0], self._stream)
        _checked(chosen, f"profile {fitting[0]}")
        _checked(self._context.set_input_shape(name, shape), f"shape {shape}")

    def _pinned(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        size = math.prod(shape)
        address = self._call(self._cuda.cuMemHostAlloc(size, 0))
        content = (ctypes.c_uint8 * size).from_address(int(address))
        return np.ctypeslib.as_array(content).reshape(shape)

    def _call(self, answer: tuple[Any, ...]) -> Any:
        error, *values = answer
        if error != 0:
            raise RuntimeError(f"CUDA: {error!r}")
        return values[0] if values else None


def _checked(found: Any, what: str) -> Any:
    if not found:
        raise RuntimeError(f"TensorRT rejected {what}; see its log")
    return found
