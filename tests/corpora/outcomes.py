"""What a call may come to, and the record of a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.corpora.files import File

WORST_FIRST = (
    "crashed", "slow", "foreign", "left behind", "leaked", "over memory", "unreadable", "done",
    "late", "refused",
)  # fmt: skip
FINDINGS = WORST_FIRST[: WORST_FIRST.index("done")]
"""Outcomes that make a run fail."""


def record_of(file: File, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the record of a file: the worst of its calls, and all of them."""
    worst = min(calls, key=lambda found: WORST_FIRST.index(found["outcome"]))
    return {
        "path": file.path,
        "folder": str(file.folder),
        "bytes": file.size_bytes,
        "sha256": file.sha256,
        "kind": file.kind,
        "outcome": worst["outcome"],
        "type": worst.get("type", ""),
        "error": worst.get("message", "").split("\n")[0],
        "seconds": round(sum(found["seconds"] for found in calls), 3),
        "peak_mb": max(found.get("peak_mb", 0) for found in calls),
        "calls": list(calls),
    }


def counts(grown: dict[str, int]) -> str:
    """Say how many more descriptors and threads are held."""
    return ", ".join(f"{count} more {name}" for name, count in sorted(grown.items()))
