"""Kernels that TensorRT for RTX compiled for this machine, kept between processes."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
from pathlib import Path

from srsdk.system import cache_folder, discard

log = logging.getLogger("srsdk")

VARIABLE = "SRSDK_CACHE_DIR"
"""Environment variable: another folder; empty: no cache at all."""


def cache_file(plan: bytes, version: str, gpu: str, driver: str) -> Path | None:
    """Return where the kernels of a plan are kept; None where the user wants no cache.

    Another library version, GPU, driver or plan has another file.
    """
    folder = _folder()
    if folder is None:
        return None
    words = "\n".join([version, gpu, driver, hashlib.sha256(plan).hexdigest()])
    return folder / f"{hashlib.sha256(words.encode()).hexdigest()[:32]}.rtx"


def load(path: Path | None) -> bytes | None:
    """Return the kept kernels, or None; files that others could have written are left alone."""
    if path is None or not path.is_file():
        return None
    try:
        if os.name == "posix" and not (_is_private(path) and _is_private(path.parent)):
            log.warning("%s is not read: other users can write there; chmod go-w mends it", path)
            return None
        return path.read_bytes()
    except OSError as error:
        log.warning("the cache %s cannot be read: %s", path, error.strerror)
        return None


def store(path: Path | None, content: bytes) -> None:
    """Write the kernels, whole or not at all; a cache that cannot be written costs time only."""
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
