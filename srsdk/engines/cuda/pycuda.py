"""Accept and return PyCUDA `GPUArray`s, in the primary context."""

from __future__ import annotations

from typing import Any

from srsdk.engines.cuda.device import Device
from srsdk.errors import BackendError


def is_gpuarray(thing: Any) -> bool:
    """Return whether an object is a PyCUDA `GPUArray`, without importing PyCUDA."""
    return type(thing).__name__ == "GPUArray" and type(thing).__module__ == "pycuda.gpuarray"


def new_gpuarray(like: Any, shape: tuple[int, int, int]) -> Any:
    """Allocate a `GPUArray` of (height, width, channels) with the dtype of `like`."""
    import pycuda.gpuarray

    return pycuda.gpuarray.empty(shape, like.dtype)


def check_primary_context(device: Device) -> None:
    """Reject a context other than the primary one: its memory cannot be used here.

    `pycuda.autoinit` and `make_context` create their own context; `pycuda.autoprimaryctx` uses the
    primary context, as all other libraries do.

    Raises:
        BackendError: the thread's current context is not the primary one.
    """
    if not device.is_current_or_none():
        raise BackendError(
            f"PyCUDA's current context is not the primary one of {device.name}: import "
            "pycuda.autoprimaryctx instead of pycuda.autoinit"
        )
