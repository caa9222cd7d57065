"""Choose the CPU or the GPUs from the arguments `device=` and `devices=`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from srsdk.engines.accelerators.spelling import DEVICES
from srsdk.errors import SrsdkError, UsageError

log = logging.getLogger("srsdk")


def choose_gpus(device: str, devices: Sequence[int] | None, *, is_engine: bool) -> tuple[int, ...]:
    """Return the indexes of the GPUs to use; empty: the CPU.

    `auto` is the first GPU for an `.engine` file, and for an `.onnx` file where the GPU build of
    ONNX Runtime is installed and the driver finds a GPU; otherwise the CPU.

    Raises:
        UsageError: an unknown name, both arguments at once, or an engine file on a CPU.
    """
    if devices is not None:
        return _checked(device, devices)
    if not isinstance(device, str):
        raise UsageError(f"device is {device!r}, expected 'auto', 'cpu', 'cuda' or 'cuda:1'")
    name, _, number = device.partition(":")
    if name == "cuda" and (not number or number.isdecimal()) and device != "cuda:":
        return (int(number or 0),)
    if device == "cpu":
        if is_engine:
            raise UsageError(
                "an .engine file runs on a GPU, not on device='cpu'; use the .onnx file"
            )
        return ()
    if device != "auto":
        raise UsageError(
            f"device {device!r} is not one of auto, cpu, cuda, cuda:0, cuda:1, ..., or, in "
            f"OpenVINO, {DEVICES}"
        )
    if is_engine:
        return (0,)
    return (0,) if has_gpu_onnxruntime() and _shows_a_gpu() else ()


def has_gpu_onnxruntime() -> bool:
    """Return whether the GPU build of ONNX Runtime is installed, without importing it."""
    # importlib.metadata takes longer to import than the rest of this package
    import importlib.metadata

    try:
        importlib.metadata.version("onnxruntime-gpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _shows_a_gpu() -> bool:
    from srsdk.engines.cuda import driver

    try:
        return driver.device_count() > 0
    except SrsdkError as error:
        log.info("device auto: cpu (%s)", error)
        return False


def _checked(device: str, devices: Sequence[int]) -> tuple[int, ...]:
    if device != "auto":
        raise UsageError(f"device={device!r} and devices={devices!r} cannot be combined")
    found = tuple(devices) if isinstance(devices, Sequence) else ()
    whole = all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in found)
    if not found or not whole or len(set(found)) != len(found):
        raise UsageError(f"devices is {devices!r}, expected different GPU numbers, such as [0, 1]")
    return found
