"""Open model files: regular files only, because a pipe or a device may wait for ever."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from srsdk.errors import ModelError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


MODEL = "a model file"


def check_regular(path: Path, expected: str = MODEL) -> int:
    """Return the size in bytes of a regular file; links are followed.

    Raises:
        ModelError: missing, or not a regular file: names what it is instead of `expected`.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if expected == MODEL:
            raise ModelError(f"{path}: no such model file") from None
        raise ModelError(f"{path} does not exist, expected {expected}") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{str(path)!r} is no path: {error}") from error
    for is_kind, name in _KINDS:
        if is_kind(found.st_mode):
            raise ModelError(f"{path} is {name}, expected {expected}")
    return found.st_size


@contextmanager
def opened(path: Path, expected: str) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file that is not empty for reading bytes; yield it and its size.

    Raises:
        ModelError: missing, not a regular file, empty, or unreadable.
    """
    check_regular(path)
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ModelError(f"{path} is not a regular file, expected {expected} file")
            if found.st_size == 0:
                raise ModelError(f"{path} is empty (0 bytes), expected {expected}")
            yield file, found.st_size
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def _without_waiting(path: str, flags: int) -> int:
    # the file may have become a pipe since it was checked
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
