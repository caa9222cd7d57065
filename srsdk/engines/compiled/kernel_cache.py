"""Disk cache of the kernels that TensorRT for RTX compiles for this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

from srsdk.system import user_cache

SCHEMA = "2"
"""2: with length and SHA-256."""


def cache_file(plan: bytes, version: str, gpu: str, driver: str) -> Path | None:
    """Return the cache file for the kernels of a plan; None: there is no cache.

    Each library version, GPU, driver and plan has its own file.
    """
    folder = user_cache.folder()
    if folder is None:
        return None
    key = "\n".join([SCHEMA, version, gpu, driver, hashlib.sha256(plan).hexdigest()])
    return folder / "rtx" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.rtx"


def load(path: Path | None) -> bytes | None:
    """Return the cached kernels, or None; see `user_cache.load`."""
    return None if path is None else user_cache.load(path)


def store(path: Path | None, content: bytes) -> None:
    """Write the kernels; if that fails, log a warning and continue without a cache."""
    if path is not None and content:
        user_cache.store(path, content)
