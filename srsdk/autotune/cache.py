"""Cache of tuning results in the user's cache folder: one small file per machine and model."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from srsdk.system.processor import processor
from srsdk.system.user_cache import folder, write

log = logging.getLogger("srsdk")

SCHEMA = 2


@dataclass(frozen=True)
class Trial:
    """Result of one candidate."""

    name: str
    """`fp32`, `bf16` or `int8`."""
    ms: float
    """Median time of the probe; 0 if it does not run."""
    parity_db: float
    """PSNR against the unchanged file; 0 if it does not run."""
    passed: bool
    """Whether it may be chosen."""
    why: str
    """Why it may not be chosen; empty if it passed."""


@dataclass(frozen=True)
class Choice:
    """Fastest way to run one model on one machine."""

    file: str
    """Name of the file, in the same folder as the requested one."""
    precision: str
    """`auto` or `bf16`, as for the Upscaler."""
    name: str
    """`fp32`, `bf16` or `int8`."""
    speed_up: float
    """Speed relative to the unchanged file; 2.0 is twice as fast."""
    tile_budget_px: int
    """Largest tile area in source pixels."""
    trials: tuple[Trial, ...]
    """Results of all candidates."""
    tiles_ms: dict[str, float]
    """Milliseconds of a tile by its size."""

    def __str__(self) -> str:
        return f"tuned: {self.name}, {self.speed_up:.1f}x"


def key(files: Sequence[Path], backend: str, threads: int | None) -> str:
    """Return the cache key: a hash of files, processor, cores, versions and arguments."""
    facts = {
        "schema": SCHEMA,
        "files": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
        "processor": str(processor()),
        "cores": _cores(),
        "versions": [importlib.metadata.version(backend)],
        "backend": backend,
        "threads": threads,
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def load(name: str) -> Choice | None:
    """Return a cached choice; None if there is none or it cannot be read."""
    path = _path(name)
    try:
        if not path.is_file():
            return None
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        trials = tuple(Trial(**trial) for trial in values.pop("trials"))
        return Choice(trials=trials, **values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("tune: %s is damaged and is measured again: %s", path, error)
        return None


def save(name: str, choice: Choice) -> None:
    """Cache a choice; if the folder cannot be written, only log a warning."""
    path = _path(name)
    try:
        write(path, json.dumps(asdict(choice), indent=1))
    except OSError as error:
        log.warning(
            "tune: the choice cannot be saved in %s and is measured again next time: %s; "
            "set SRSDK_CACHE to another folder",
            path.parent,
            error,
        )


def _path(name: str) -> Path:
    return folder() / f"tune-{name}.json"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
