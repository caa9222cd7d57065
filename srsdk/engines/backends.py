"""Names of the backends, and which of them are installed."""

from __future__ import annotations

import importlib.util

BACKENDS = ("openvino", "onnxruntime")
"""CPU backends, in the order in which `auto` tries them: OpenVINO measured faster (README)."""
ALL_BACKENDS = (*BACKENDS, "tensorrt")


def installed(backend: str) -> bool:
    """Return whether the backend's library is installed, without importing it."""
    return importlib.util.find_spec(backend) is not None


def advice(backend: str) -> str:
    """Return what to try when a backend refuses a file."""
    other = next(name for name in BACKENDS if name != backend)
    return f"try backend={other!r} (--backend {other})"
