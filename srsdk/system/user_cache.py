"""Store small files in the user's cache folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from srsdk.system.paths import cache_folder, discard


def folder() -> Path:
    """Return the cache folder: `SRSDK_CACHE`, or the system's cache folder for this user."""
    named = os.environ.get("SRSDK_CACHE")
    return Path(named) if named else cache_folder()


def write(path: Path, text: str) -> None:
    """Write a small file atomically; create its folder if needed.

    Raises:
        OSError: the file cannot be written; no partial file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed before it is renamed or removed
        "w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8"
    )
    try:
        with file:
            file.write(text)
        Path(file.name).replace(path)
    except BaseException:
        discard(Path(file.name))
        raise
