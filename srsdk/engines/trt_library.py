"""Both flavours of TensorRT as Python modules, and their log as Python's."""

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
"""Error lines of the library that an exception can quote."""
_ECHOES = ("catchCudaError",)
"""A second line that follows every error and says nothing of its cause."""


@dataclass(frozen=True)
class Library:
    """One flavour, imported."""

    flavour: str
    """`rtx` or `tensorrt`."""
    module: Any
    """Its Python module."""
    version: str
    """Exact version, such as `1.7.1.116`."""
    logger: Any
    """The `ILogger` of all its objects; it keeps the last errors."""

    @property
    def title(self) -> str:
        """Name and version for people."""
        return f"{TITLES[self.flavour]} {self.version}"

    def sentence(self, what: str) -> str:
        """Return `what` with the library's last errors, and forget them."""
        errors = list(self.logger.errors)
        self.logger.errors.clear()
        said = "; ".join(" ".join(error.split())[:400] for error in errors)
        return f"{what}: {said or 'it gives no reason'}"


@functools.cache
def open_library(flavour: str) -> Library:
    """Import a flavour, once: a process has one logger for all objects of the library.

    Raises:
        EngineMismatch: it is not installed, or too old.
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
        """TensorRT itself prints nothing."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=KEPT_ERRORS)

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            if level >= logging.ERROR:
                if any(echo in message for echo in _ECHOES):
                    return
                self.errors.append(message)
                # the exception that follows carries it; the log is for who looks into it
                level = logging.INFO
            log.log(level, "%s: %s", trt.__name__, message)

    return Log()
