"""Import a flavour of TensorRT, call it, and translate its errors; its log goes to `logging`.

TensorRT reports an error as None, False or a plain RuntimeError and logs the reason. `called` is
the one place where these become exceptions of srsdk.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from srsdk.engines.cuda.engine import failure
from srsdk.errors import EngineMismatch

log = logging.getLogger("srsdk")

MODULES = {"rtx": "tensorrt_rtx", "tensorrt": "tensorrt", "lean": "tensorrt_lean"}
"""Python module by flavour, which is also the name of the extra that installs it."""
TITLES = {"rtx": "TensorRT for RTX", "tensorrt": "TensorRT", "lean": "the TensorRT lean runtime"}
MIN_MAJOR = 10
"""Oldest major version of TensorRT that runs engines; exports build with 11."""
KEPT_ERRORS = 8
"""Number of a call's last error lines that an exception can quote."""
_ECHOES = ("catchCudaError",)
"""Marks the second line of every error, which does not contain the cause."""


class ErrorLines:
    """The error lines of a log, collected per call.

    All objects of a library share one logger, and calls of several threads overlap. A line belongs
    to the call of the thread that logs it; a thread without one is the library's own and may work
    for any call, so that its lines go to all of them.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        # by identity: collectors with equal lines are equal
        self._open: dict[int, deque[str]] = {}

    @contextmanager
    def collect(self, limit: int | None = KEPT_ERRORS) -> Iterator[deque[str]]:
        """Collect the last `limit` lines of the calls that this thread makes in this block."""
        lines: deque[str] = deque(maxlen=limit)
        mine = self._mine()
        mine.append(lines)
        with self._lock:
            self._open[id(lines)] = lines
        try:
            yield lines
        finally:
            with self._lock:
                del self._open[id(lines)]
            mine.pop()

    def add(self, line: str) -> None:
        """Add a line to the collectors that it belongs to."""
        if not (targets := self._mine()):
            with self._lock:
                targets = list(self._open.values())
        for lines in targets:
            lines.append(line)

    def _mine(self) -> list[deque[str]]:
        if not hasattr(self._local, "lines"):
            self._local.lines = []
        return self._local.lines  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Library:
    """One imported flavour of TensorRT."""

    flavour: str
    """`rtx`, `tensorrt` or `lean`."""
    module: Any
    """Its Python module."""
    version: str
    """Exact version, such as `1.7.1.116`."""
    logger: Any
    """The `ILogger` shared by all its objects; see `make_logger`."""

    @property
    def title(self) -> str:
        """Display name and version."""
        return f"{TITLES[self.flavour]} {self.version}"

    def call(
        self,
        what: str,
        function: Callable[..., Any],
        *arguments: Any,
        fails: Callable[[Any], bool] | None = None,
        error: Callable[[str], Exception] = failure,
    ) -> Any:
        """Call a function of the library; see `called`."""
        return called(self.logger, what, function, *arguments, fails=fails, error=error)

    def runtime(self, what: str) -> Any:
        """Make a `Runtime`; engines of it must not outlive it.

        Args:
            what: begins the error message, such as the path of an engine.

        Raises:
            EngineMismatch: the library does not work on this machine; quotes its reason.
        """
        text = f"{what}: {self.title} cannot start"
        return made(self.logger, text, self.module.Runtime, error=EngineMismatch)


def called(
    logger: Any,
    what: str,
    function: Callable[..., Any],
    *arguments: Any,
    fails: Callable[[Any], bool] | None = None,
    error: Callable[[str], Exception] = failure,
) -> Any:
    """Call a function of a library and return its result, or raise an exception with its reason.

    Args:
        logger: result of `make_logger`.
        what: begins the error message: what did not work.
        function: the function.
        arguments: its arguments.
        fails: returns whether a result means failure; None: None and False do.
        error: makes the exception from the message.

    Raises:
        BackendError, OutOfMemoryError: or the exception that `error` makes.
    """
    with logger.lines.collect() as lines:
        try:
            answer = function(*arguments)
        except (RuntimeError, MemoryError) as cause:
            raise error(sentence(what, [*lines, _text(cause)])) from cause
    if (answer is None or answer is False) if fails is None else fails(answer):
        raise error(sentence(what, lines))
    return answer


def made(logger: Any, what: str, kind: Any, *, error: Callable[[str], Exception]) -> Any:
    """Make one of a library's top-level objects, a `Runtime` or a `Builder`.

    One that could not be made is a Python object around a null pointer: only the log tells, and
    using it, or freeing it, ends the process.

    Args:
        logger: result of `make_logger`, the object's only argument.
        what: begins the error message.
        kind: the class.
        error: makes the exception from the message.
    """
    with logger.lines.collect() as lines:
        try:
            new = kind(logger)
        except (RuntimeError, MemoryError, TypeError) as cause:
            # TypeError: TensorRT 10 notices the null pointer, "factory function returned nullptr"
            raise error(sentence(what, [*lines, _text(cause)])) from cause
    if lines:
        # one reference more than there are: not even the interpreter's end may free it
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(new))
    if lines or new is None:
        raise error(sentence(what, lines))
    return new


def never(_: Any) -> bool:
    """Return False: for `fails` of a function that has no result, or whose every result is good."""
    return False


def _text(cause: Exception) -> str:
    return str(cause) or type(cause).__name__


def sentence(what: str, lines: Iterable[str]) -> str:
    """Return `what` followed by the reasons that a library logged."""
    reasons = "; ".join(" ".join(line.split())[:400] for line in lines)
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
    if flavour != "rtx" and int(version.partition(".")[0]) < MIN_MAJOR:
        raise EngineMismatch(
            f"{name} is {version}, expected {MIN_MAJOR} or newer: pip install 'srsdk[{flavour}]'"
        )
    return Library(flavour, module, version, make_logger(module))


def make_logger(trt: Any, *, forward: bool = True) -> Any:
    """Return an `ILogger`, which keeps TensorRT from printing to the console.

    Its attribute `lines` collects errors, see `ErrorLines`.

    Args:
        trt: the module.
        forward: also write all messages into Python's logging.
    """
    severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,
        severity.VERBOSE: logging.DEBUG - 1,
    }

    class Log(trt.ILogger):  # type: ignore[misc]
        """Collects errors and forwards everything."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines = ErrorLines()

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            if level >= logging.ERROR:
                if any(echo in message for echo in _ECHOES):
                    return
                self.lines.add(message)
                # the exception that follows quotes it, so the log needs it only for details
                level = logging.INFO
            if forward:
                log.log(level, "%s: %s", trt.__name__, message)

    return Log()
