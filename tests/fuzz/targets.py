"""Names of the fuzz targets: each takes bytes and raises only if srsdk has a bug."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable

MODULES = {
    "model": ("manifest", "onnx", "plan"),
    "picture": ("picture", "animation", "icon", "avif"),
    "text": ("recipe", "command_line"),
    "record": ("record", "tune", "report", "ledger", "parts"),
    "checkpoint": ("weights",),
    "video": ("video",),
    "serving": ("request",),
}
"""Targets of each module `NAME_targets`."""
TARGETS = [name for names in MODULES.values() for name in names]
NEEDS = {"video": "av", "weights": "safetensors"}
"""Optional package that a target needs."""
MAX_BYTES = {"video": 32768}
"""Size limit of inputs; others: 8192."""


def is_possible(name: str) -> bool:
    """Return whether the package that a target needs is installed."""
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


def load(name: str) -> Callable[[bytes], None]:
    """Import a target; the others stay out, so that a process starts fast."""
    module = next(module for module, names in MODULES.items() if name in names)
    target: Callable[[bytes], None] = getattr(
        importlib.import_module(f"tests.fuzz.{module}_targets"), name
    )
    return target
