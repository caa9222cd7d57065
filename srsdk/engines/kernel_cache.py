"""Disk cache of the kernels that TensorRT for RTX compiles for this machine."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
from pathlib import Path

from srsdk.system.paths import cache_folder, discard

log = logging.getLogger("srsdk")

VARIABLE = "SRSDK_CACHE_DIR"
"""Environment variable that sets another cache folder; empty: no cache."""


def cache_file(plan: bytes, version: str, gpu: str, driver: str) -> Path | None:
    """Return the cache file for the kernels of a plan; None if the user disabled the cache.

    Each library version, GPU, driver and plan has its own file.
    """
    folder = _folder()
    if folder is None:
        return None
    key = "\n".join([version, gpu, driver, hashlib.sha256(plan).hexdigest()])
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.rtx"


def load(path: Path | None) -> bytes | None:
    """Return the cached kernels, or None; files that other users can write are not read."""
    if path is None or not path.is_file():
        return None
    try:
        if os.name == "posix" and not (_is_private(path) and _is_private(path.parent)):
            log.warning("%s is not read: other users can write there; fix: chmod go-w", path)
            return None
        return path.read_bytes()
    except OSError as error:
        log.warning("the cache %s cannot be read: %s", path, error.strerror)
        return None


def store(path: Path | None, content: bytes) -> None:
    """Write the kernels atomically; if that fails, log a warning and continue without a cache."""
    if path is None or not content:
        return
    temporary = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp: readable and writable by this user only
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        log.warning("the cache %s cannot be written: %s", path, error.strerror)
        if temporary is not None:
            discard(Path(temporary))


def _folder() -> Path | None:
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    return cache_folder() / "rtx"


def _is_private(path: Path) -> bool:
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
