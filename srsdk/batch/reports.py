"""Append the outcomes of a run to a JSON Lines file, and to no file that is something else."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srsdk.errors import OutputError
from srsdk.system import durable

KEYS = frozenset(("source", "target", "status", "seconds"))
"""In every line."""
TAIL_BYTES = 1 << 20
"""How much of an existing report's end is read."""

SETTLE_S = 0.05
"""How long another run may take to write one line."""

_BEGINNING = b'{"source": "'

Append = Callable[[dict[str, Any]], None]


def check(path: Path | None) -> None:
    """Refuse to append to a file that is no report, before any work.

    Raises:
        OutputError: the file has other content, or cannot be read.
    """
    if path is None:
        return
    try:
        if stat.S_ISREG(path.stat().st_mode):
            _read_tail(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def lines_to(path: Path | None) -> Iterator[Append]:
    """Yield a function that appends a line with one write call, so that a kill loses none.

    An existing file must be empty or a report of an earlier run; pipes and devices are written to
    as they are. At the end the file is synced.

    Raises:
        OutputError: the file is no report, or cannot be written.
    """
    if path is None:
        yield lambda _: None
        return
    check(path)
    with _translated(path):
        is_new = not path.exists()
        handle = _open(path)
    try:
        with _translated(path):
            is_file = stat.S_ISREG(os.fstat(handle).st_mode)
            # the last line of a killed run may be torn
            gap = b"\n" if is_file and _is_open_ended(path) else b""

        def append(line: dict[str, Any]) -> None:
            nonlocal gap
            with _translated(path):
                _write(handle, gap + f"{json.dumps(line)}\n".encode("ascii"))
            gap = b""

        try:
            yield append
        finally:
            if is_file:
                with _translated(path):
                    os.fsync(handle)
                    if is_new:
                        durable.sync_folder(Path(os.path.realpath(path)).parent)
    finally:
        os.close(handle)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    # a pipe that nobody reads is an error instead of a wait without end
    waits = getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags | waits, 0o666)
    if waits:
        os.set_blocking(handle, True)
    return handle


def _write(handle: int, data: bytes) -> None:
    # a disk that becomes full takes a part, and refuses the rest
    while data:
        data = data[os.write(handle, data) :]


def _is_open_ended(path: Path) -> bool:
    """Return whether a report's last line has no end, and no other run is writing it now.

    Raises:
        OutputError: the file is no report.
    """
    seen = None
    while (tail := _read_tail(path)) and not tail.endswith(b"\n"):
        if tail == seen:
            return True
        seen = tail
        time.sleep(SETTLE_S)
    return False


def _read_tail(path: Path) -> bytes:
    """Return the end of a report.

    Raises:
        OutputError: the file is no report.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read()
    if not _is_report(tail, is_whole=size <= TAIL_BYTES):
        raise OutputError(
            f"{path} is not a report of srsdk, expected a new file, an empty one or a report to "
            "append to; choose another report="
        )
    return tail


def _is_report(tail: bytes, *, is_whole: bool) -> bool:
    """Return whether the last line that is not torn is one of ours."""
    lines = tail.split(b"\n")
    if not is_whole:
        del lines[0]
    for line in reversed(lines):
        if _is_ours(line):
            return True
        if not _is_torn(line):
            return False
    return is_whole


def _is_ours(line: bytes) -> bool:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.keys() >= KEYS


def _is_torn(line: bytes) -> bool:
    """Return whether a line is the beginning of one of ours, as a killed run leaves it."""
    if not _BEGINNING.startswith(line[: len(_BEGINNING)]):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False
