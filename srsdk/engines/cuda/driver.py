"""The CUDA driver API, `cuda.bindings.driver`, and the translation of its errors.

The driver half of cuda-bindings works with any driver that has the functions used here; the
runtime half of version 13 refuses drivers older than CUDA 13.
"""

from __future__ import annotations

import functools
from typing import Any

from srsdk.errors import BackendError, DeviceLostError, OutOfMemoryError

MIN_VERSION = 11040
"""CUDA 11.4: the first driver with every function that is used here."""

_SUCCESS, _OUT_OF_MEMORY, _NOT_INITIALIZED, _NO_DEVICE = 0, 2, 3, 100
STICKY = frozenset(
    {
        214,  # uncorrectable ECC error
        220,  # uncorrectable NVLink error
        226,  # the same, contained
        700,  # illegal address
        702,  # launch timeout
        709,  # the context is destroyed
        710,  # device-side assertion
        714,  # hardware stack error
        715,  # illegal instruction
        716,  # misaligned address
        717,  # invalid address space
        718,  # invalid program counter
        719,  # launch failure
        721,  # tensor memory
    }
)
"""Codes after which every call in the context fails, until the process ends."""


class NoDriverError(BackendError):
    """No NVIDIA driver, a driver that is too old, or no GPU."""


@functools.cache
def load() -> Any:
    """Import the bindings of the CUDA driver; works without a driver.

    Raises:
        BackendError: cuda-bindings is not installed.
    """
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise BackendError(
            f"running on a GPU needs cuda-bindings, which is not installed ({error}): "
            "pip install 'cuda-bindings>=12.9'"
        ) from error
    return driver


def device_count() -> int:
    """Return how many GPUs the driver finds; it is always at least one.

    Raises:
        BackendError: cuda-bindings is not installed, or this process is a fork of one that used
            the GPU.
        NoDriverError: no driver, a driver that is too old, or no GPU.
    """
    cuda = load()
    try:
        (code,) = cuda.cuInit(0)
    except RuntimeError as error:
        # its own class, which has no public name, if the driver's library does not exist
        raise NoDriverError(
            "no CUDA driver on this machine (its library does not load): install the NVIDIA "
            "driver, or use an .onnx model with device='cpu'"
        ) from error
    if code == _NOT_INITIALIZED:
        raise BackendError(
            "this process is a fork of one that used the GPU, and CUDA does not survive a fork: "
            "use multiprocessing's start method 'spawn', or open the first Upscaler after the fork"
        )
    if code != _SUCCESS:
        raise _no_driver(cuda, code)
    if driver_version() < MIN_VERSION:
        raise NoDriverError(
            f"the NVIDIA driver supports CUDA {version_text(driver_version())}, expected "
            f"{version_text(MIN_VERSION)} or newer: update the driver"
        )
    count = int(check(cuda.cuDeviceGetCount()))
    if not count:
        raise _no_driver(cuda, cuda.CUresult.CUDA_ERROR_NO_DEVICE)
    return count


def driver_version() -> int:
    """Return the newest CUDA version that the driver supports: 13010 is 13.1."""
    return int(check(load().cuDriverGetVersion()))


def version_text(version: int) -> str:
    """Return a version of CUDA as people write it."""
    return f"{version // 1000}.{version % 1000 // 10}"


def check(answer: tuple[Any, ...], where: str = "", what: str = "") -> Any:
    """Return the results of a driver call, or raise the translated error.

    Args:
        answer: error code and results.
        where: name of the device, for the message.
        what: what was to be allocated, for the message.

    Raises:
        OutOfMemoryError: not enough memory.
        DeviceLostError: nothing works in this context any more.
        BackendError: any other error.
    """
    code, *values = answer
    if code == _SUCCESS:
        return values[0] if len(values) == 1 else tuple(values)
    if code == _OUT_OF_MEMORY:
        raise OutOfMemoryError(f"out of memory: {what or 'an allocation inside a library'}")
    text = f"CUDA failed{f' on {where}' if where else ''}: {describe(code)}"
    if int(code) in STICKY:
        raise DeviceLostError(
            f"{text}; everything on this GPU in this process is lost: restart the process, or "
            "open the model with device='cpu'"
        )
    raise BackendError(text)


def describe(code: Any) -> str:
    """Return name and meaning of an error code."""
    name = getattr(code, "name", f"error {int(code)}")
    _, text = load().cuGetErrorString(code)
    return f"{name}: {text.decode(errors='replace')}" if text else str(name)


def _no_driver(cuda: Any, code: Any) -> NoDriverError:
    name = f"{getattr(code, 'name', 'error')} ({int(code)})"
    if int(code) == _NO_DEVICE:
        return NoDriverError(f"the NVIDIA driver finds no GPU ({name}): check nvidia-smi")
    return NoDriverError(f"the CUDA driver does not start ({name}): check nvidia-smi")
