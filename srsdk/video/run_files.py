"""Names and records in the folder of an unfinished run."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import asdict
from pathlib import Path
from typing import Any

from srsdk.system import durable
from srsdk.video.encoding import Encoding
from srsdk.video.source import Source

FORMAT = "nut"
"""Holds any codec in the source's time base; Matroska would round times to milliseconds."""
LOCK, STATE, PARTIAL = "lock", "run.json", "partial.json"
PART = re.compile(rf"(\d{{6,}})\.({FORMAT}|json)")
UNFINISHED = re.compile(r"\d{6,}\.(tmp|short)|\.[0-9a-f]{16}\.tmp(\.\w+)?")
OURS = re.compile(rf"{LOCK}|{STATE}|{PARTIAL}|{PART.pattern}|{UNFINISHED.pattern}")
_RECORD_BYTES = 1 << 24
"""Longest record that is read; run.json holds a manifest."""


def folder_of(target: Path) -> Path:
    """Return the folder of the target's parts, which may not exist."""
    return target.with_name(f".{target.name}.parts")


def can_resume(target: Path) -> bool:
    """Return whether an interrupted run left something to continue."""
    return (folder_of(target) / STATE).is_file()


def resume_key(source: Source, encoding: Encoding, model: dict[str, Any]) -> dict[str, Any]:
    """Return everything that the parts depend on, to check before resuming."""
    found = source.path.stat()
    return {
        "source": os.path.realpath(source.path),
        "bytes": found.st_size,
        "changed_ns": found.st_mtime_ns,
        "model": model,
        "encoding": asdict(encoding),
    }


def read_record(path: Path) -> Any:
    """Return the value of a record, or None if there is none that can be trusted."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _RECORD_BYTES:
            return None
        return durable.read_record(path)
    except (OSError, ValueError):
        return None


def short(value: Any) -> str:
    """Return a value as it is shown in a message."""
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
