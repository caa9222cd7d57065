"""What Windows, macOS and Linux do differently: file names, files in use, Ctrl-C, cache folders.

docs/platforms.md says which of it was run where.
"""

from __future__ import annotations

import concurrent.futures
import os
import sys
import tempfile
import unicodedata
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

WINDOWS = os.name == "nt"
MACOS = sys.platform == "darwin"

TICK_S = 0.2
"""How long a wait lasts before the interpreter looks whether Ctrl-C was pressed."""

_FORBIDDEN = frozenset('<>:"|?*')
_DEVICES = frozenset(
    ("CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10)))
)


def cache_folder() -> Path:
    """Return where this user's caches of srsdk belong on this system; it may not exist."""
    if WINDOWS:
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "srsdk"
    if MACOS:
        return Path.home() / "Library" / "Caches" / "srsdk"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "srsdk"


def bad_name(name: str) -> str:
    """Return why this system has no file of this name, or "".

    Windows finds out late: `a:b.png` is written, as a stream of the file `a`, and `nul.png` is a
    device, whatever its suffix.
    """
    if not WINDOWS:
        return ""
    wrong = sorted({c for c in name if c in _FORBIDDEN or ord(c) < 32})
    if wrong:
        return f"Windows has no {' or '.join(map(repr, wrong))} in file names"
    if name.endswith((".", " ")):
        return "Windows drops a dot or space at the end of a file name"
    if name.partition(".")[0].rstrip().upper() in _DEVICES:
        return "Windows has a device of this name"
    return ""


def folded(path: Path) -> str:
    """Return the same text for all names that a file system without case takes for one."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def ignores_case(folder: Path) -> bool:
    """Say whether `A.png` and `a.png` are one file in a folder, or where it will be made."""
    there = next((each for each in (folder, *folder.absolute().parents) if each.is_dir()), folder)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".Aa") as file:
            made = Path(file.name)
            return made.with_name(made.name.swapcase()).exists()
    except OSError:
        return WINDOWS or MACOS


def is_same_file(a: Path, b: Path) -> bool:
    """Say whether two paths lead to one file; what is not there has its path alone.

    Hard links are two files: the one is replaced without the other.
    """
    a, b = a.resolve(), b.resolve()
    if a == b or folded(a) != folded(b):
        return a == b
    with suppress(OSError):
        return a.samefile(b)
    return False


def discard(path: Path) -> None:
    """Remove a temporary file, if it is there and the system lets.

    Windows removes no file that a library which failed still has open, and the failure is what
    matters then.
    """
    with suppress(PermissionError):
        path.unlink(missing_ok=True)


def result_of(future: Future[T]) -> T:
    """Wait for a future's result so that Ctrl-C is heeded.

    On Windows nothing interrupts a wait that has no end.
    """
    while not future.done():
        concurrent.futures.wait([future], timeout=TICK_S)
    return future.result()
