"""PyCUDA next door: its `GPUArray`s in and out, in the primary context."""

from __future__ import annotations

from typing import Any

from srsdk.engines.cuda import Device
from srsdk.errors import BackendError


def is_gpuarray(thing: Any) -> bool:
    """Say whether something is a PyCUDA `GPUArray`, without importing PyCUDA."""
    return type(thing).__name__ == "GPUArray" and type(thing).__module__ == "pycuda.gpuarray"


def new_gpuarray(like: Any, shape: tuple[int, int, int]) -> Any:
    """Allocate a `GPUArray` of (height, width, channels), of the type of the one passed in."""
    import pycuda.gpuarray

    return pycuda.gpuarray.empty(shape, like.dtype)


def check_primary_context(device: Device) -> None:
    """Refuse another context: its memory is none of ours.

    `pycuda.autoinit` and `make_context` create a context of their own; `pycuda.autoprimaryctx`
    takes the one that everybody else uses.

    Raises:
        BackendError: the thread's current context is another one.
    """
    from cuda.bindings import driver

    _, current = driver.cuCtxGetCurrent()
    _, primary = driver.cuDevicePrimaryCtxRetain(device.index)
    try:
        if int(current) not in (0, int(primary)):
            raise BackendError(
                f"PyCUDA's current context is not the primary one of {device.name}: import "
                "pycuda.autoprimaryctx instead of pycuda.autoinit"
            )
    finally:
        driver.cuDevicePrimaryCtxRelease(device.index)
