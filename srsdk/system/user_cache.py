"""Store small files in the user's cache folder: self-tests, tuning, compiled kernels.

Each file is written with its length and SHA-256 and read back against them. On POSIX a file is not
read if another user owns or may write it or its folder, because kernels are code. Nothing here
raises: without a cache everything is computed again, and the log says once why.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

from srsdk.system.durable import (
    DamagedRecord,
    create_private,
    is_private,
    make_private,
    pack,
    replacing,
    unpack,
)
from srsdk.system.paths import cache_folder

log = logging.getLogger("srsdk")

VARIABLE = "SRSDK_CACHE"
"""Environment variable that sets another cache folder; empty: no cache."""
FIX = f"set {VARIABLE} to another folder, or to nothing for no cache"
STALE_S = 3600
"""How much older than the newest file one that was never completed is when it is deleted."""

_said: set[str] = set()
_lock = threading.Lock()


def folder() -> Path | None:
    """Return the cache folder: `SRSDK_CACHE`, or the system's cache folder for this user.

    Returns:
        The folder, which may not exist; None: the user wants no cache, or has no home directory.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    found = cache_folder()
    if found is None:
        _say_once(logging.INFO, f"no cache: this user has no home directory; set {VARIABLE}=FOLDER")
    return found


def load(path: Path) -> bytes | None:
    """Return the content of a cached file; None: there is none that can be trusted."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            if not (is_private(os.fstat(file.fileno())) and is_private(path.parent.stat())):
                _say_once(
                    logging.WARNING,
                    f"the cache {path.parent} is not read: other users own it or can write there; "
                    f"fix: chmod -R go-w {path.parent}, or {FIX}",
                )
                return None
            return unpack(file.read())
    except DamagedRecord as error:
        log.warning("the cache %s is damaged and is made again: %s", path, error)
    except OSError as error:
        _say_once(
            logging.WARNING, f"the cache {path.parent} cannot be read: {error.strerror}; {FIX}"
        )
    return None


def store(path: Path, content: bytes, *, level: int = logging.WARNING) -> bool:
    """Write a file atomically, readable and writable by this user only; create its folder.

    Args:
        path: the file.
        content: what `load` will return.
        level: of the log line that says, once, that the folder cannot be written.

    Returns:
        Whether it was written; if not, no partial file is left.
    """
    try:
        make_private(path.parent)
        with replacing(path) as temporary, create_private(temporary) as file:
            file.write(pack(content))
    except OSError as error:
        _say_once(
            level, f"the cache {path.parent} cannot be written: {error.strerror or error}; {FIX}"
        )
        return False
    return True


def trim(folder: Path, suffix: str, max_bytes: int) -> None:
    """Delete the least recently used files of a cache folder until the rest fits.

    Files that a killed process was writing are deleted, see `STALE_S`. Any number of processes may
    do so at once. A file that cannot be deleted is logged once.

    Args:
        folder: the folder.
        suffix: of the files, with the dot.
        max_bytes: what the files may hold together.
    """
    try:
        found = sorted(_files(folder, suffix), reverse=True)
        total = 0
        for used_s, size, path in found:
            if path.name.startswith("."):
                # not the clock, which may be wrong: the caller has just written the newest file
                is_unwanted = used_s < found[0][0] - STALE_S
            else:
                total += size
                is_unwanted = total > max_bytes
            if is_unwanted:
                path.unlink(missing_ok=True)
    except OSError as error:
        _say_once(
            logging.WARNING, f"the cache {folder} cannot be trimmed: {error.strerror or error}"
        )


def _files(folder: Path, suffix: str) -> list[tuple[float, int, Path]]:
    """Return the time of last use, the size and the path of each file."""
    found = []
    for path in folder.iterdir():
        # another process may delete it meanwhile
        with suppress(FileNotFoundError):
            if path.suffix == suffix and not path.is_symlink():
                about = path.stat()
                found.append((about.st_mtime, about.st_size, path))
    return found


def trouble() -> str:
    """Return why nothing is cached here, or ""."""
    found = folder()
    if found is None:
        return "this user has no home directory"
    probe = found / f"doctor-{os.getpid()}"
    try:
        make_private(found)
        with replacing(probe) as temporary:
            create_private(temporary).close()
        probe.unlink()
    except OSError as error:
        return f"{found} cannot be written: {error.strerror or error}"
    if not is_private(found.stat()):
        return f"{found} is not read: other users own it or can write there"
    return ""


def _say_once(level: int, text: str) -> None:
    with _lock:
        if text in _said:
            return
        _said.add(text)
    log.log(level, "%s", text)
