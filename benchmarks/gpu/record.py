"""The record of `gpu-check`: read, changed and written after every section."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import srsdk
from srsdk.system.durable import make_folder, replacing

NAME = "gpu-check.json"
VERSION = 2
DONE, FAILED, MISSING, STOPPED = "done", "failed", "missing", "stopped"
"""All checks hold; one does not, or the section died; it cannot run here; its time was over."""


class RecordError(RuntimeError):
    """The record of the output folder may not be replaced, or cannot be read or written."""


def begin(out: Path, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """Return the record to continue: a new one, or that of the output folder.

    Raises:
        RecordError: a record exists and neither flag is given, or it cannot be continued.
    """
    path = out / NAME
    if not path.exists() or overwrite:
        began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return {"version": VERSION, "began": began, "srsdk": srsdk.__version__, "sections": {}}
    if not resume:
        raise RecordError(f"{path} exists: --resume continues it, --overwrite starts again")
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = record["version"]
        record["sections"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path} is damaged ({error}): --overwrite starts again") from error
    if version != VERSION:
        raise RecordError(
            f"{path} has version {version}, expected {VERSION}: --overwrite starts again"
        )
    return record


def is_done(record: dict[str, Any], name: str) -> bool:
    """Return whether a section ran and all its checks hold."""
    return bool(record["sections"].get(name, {}).get("status") == DONE)


def save(out: Path, record: dict[str, Any]) -> Path:
    """Write the record atomically and return its path.

    Raises:
        RecordError: it cannot be written; the previous one is unchanged.
    """
    path = out / NAME
    text = json.dumps(record, indent=1, default=str, sort_keys=False)
    try:
        make_folder(out)
        with replacing(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror}: choose another --out") from error
    return path


def failures(record: dict[str, Any]) -> list[str]:
    """Return a line for each section that failed or was stopped."""
    lines = []
    for name, entry in record["sections"].items():
        if entry["status"] in (FAILED, STOPPED):
            lines.append(f"{name} {entry['status']}: {entry['reason']}")
    return lines
