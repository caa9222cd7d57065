"""Names of the backends, and which of them are installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Literal

BACKENDS: tuple[Literal["openvino", "onnxruntime"], ...] = ("openvino", "onnxruntime")
"""CPU backends, in the order in which `auto` tries them: OpenVINO measured faster
(docs/performance.md)."""
ALL_BACKENDS = (*BACKENDS, "tensorrt")
FLAVOURS = ("tensorrt", "tensorrt_rtx", "tensorrt_lean")
"""Packages of the backend `tensorrt`."""


def installed(backend: str) -> bool:
    """Return whether the backend's library is installed, without importing it."""
    return importlib.util.find_spec(backend) is not None


def library_version(backend: str) -> str:
    """Return the version of the backend's library, whichever wheel it came from; "": unknown.

    For `tensorrt`: of all flavours that are installed.
    """
    try:
        return importlib.metadata.version(backend)
    except importlib.metadata.PackageNotFoundError:
        # the wheel has another name than the package, such as onnxruntime-gpu
        by_package = importlib.metadata.packages_distributions()
        packages = FLAVOURS if backend == "tensorrt" else (backend,)
        wheels = {name for package in packages for name in by_package.get(package, ())}
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(wheels))


def advice(backend: str) -> str:
    """Return what to try when a backend refuses a file."""
    other = next(name for name in BACKENDS if name != backend)
    return f"try backend={other!r}"
