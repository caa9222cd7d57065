"""The file of results: one JSON line per file tried."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from tests.corpora.files import File


class Ledger:
    """Records of this run and of earlier ones.

    Args:
        path: the file; None keeps the records in memory only.
        again: whether to try files that an earlier run has tried.
    """

    def __init__(self, path: Path | None, *, again: bool = False) -> None:
        self._path, self._lock = path, threading.Lock()
        self._known = {_key(record): record for record in _read(path)} if not again else {}
        if path is not None:
            _end_torn_line(path)

    def earlier(self, file: File) -> dict[str, Any] | None:
        """Return the record of an earlier run for the same path, size and content."""
        return self._known.get(file.key)

    def add(self, record: dict[str, Any]) -> None:
        """Append a record."""
        if self._path is None:
            return
        with self._lock, self._path.open("a", encoding="ascii") as stream:
            stream.write(json.dumps(record) + "\n")


def _key(record: dict[str, Any]) -> tuple[str, int, str]:
    return record["path"], record["bytes"], record["sha256"]


def _read(path: Path | None) -> list[dict[str, Any]]:
    """Return the records of a file, except for a line that was cut when a run was killed."""
    if path is None or not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"path", "bytes", "sha256", "outcome"} <= record.keys():
            found.append(record)
    return found


def _end_torn_line(path: Path) -> None:
    if path.exists() and (data := path.read_bytes()) and not data.endswith(b"\n"):
        with path.open("ab") as stream:
            stream.write(b"\n")
