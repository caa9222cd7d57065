"""Import TensorRT or TensorRT for RTX, and forward its log to Python's logging."""

from __future__ import annotations

import functools
import importlib
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any

from srsdk.errors import EngineMismatch

log = logging.getLogger("srsdk")

MODULES = {"rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
TITLES = {"rtx": "TensorRT for RTX", "tensorrt": "TensorRT"}
MIN_MAJOR = 11
KEPT_ERRORS = 8
"""Number of the library's last error lines that an exception can quote."""
_ECHOES = ("catchCudaError",)
"""Marks the second line of every error, which does not contain the cause."""


@dataclass(frozen=True)
class Library:
    """One imported flavour of TensorRT."""

    flavour: str
    """`rtx` or `tensorrt`."""
    module: Any
    """Its Python module."""
    version: str
    """Exact version, such as `1.7.1.116`."""
    logger: Any
    """The `ILogger` shared by all its objects; it keeps the last errors."""

    @property
    def title(self) -> str:
        """Display name and version."""
        return f"{TITLES[self.flavour]} {self.version}"

    def sentence(self, what: str) -> str:
        """Return `what` followed by the library's last errors, and clear them."""
        errors = list(self.logger.errors)
        self.logger.errors.clear()
        reasons = "; ".join(" ".join(error.split())[:400] for error in errors)
        return f"{what}: {reasons or 'no reason given'}"


@functools.cache
def open_library(flavour: str) -> Library:
    """Import a flavour once: all objects of the library in a process share one logger.

    Raises:
        EngineMismatch: the library is not installed or too old.
    """
    name = MODULES[flavour]
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise EngineMismatch(
            f"{TITLES[flavour]} is not installed here ({error}): pip install 'srsdk[{flavour}]'"
        ) from error
    version = str(module.__version__)
    if flavour == "tensorrt" and int(version.partition(".")[0]) < MIN_MAJOR:
        raise EngineMismatch(
            f"tensorrt is {version}, expected {MIN_MAJOR} or newer: pip install 'srsdk[tensorrt]'"
        )
    return Library(flavour, module, version, make_logger(module))


def make_logger(trt: Any) -> Any:
    """Return an `ILogger` that writes into Python's logging and keeps the last errors."""
    severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,
        severity.VERBOSE: logging.DEBUG - 1,
    }

    class Log(trt.ILogger):  # type: ignore[misc]
        """Keeps TensorRT from printing to the console."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=KEPT_ERRORS)

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            if level >= logging.ERROR:
                if any(echo in message for echo in _ECHOES):
                    return
                self.errors.append(message)
                # the exception that follows quotes it, so the log needs it only for details
                level = logging.INFO
            log.log(level, "%s: %s", trt.__name__, message)

    return Log()
