"""What a trial found, kept in the user's cache folder: one small file a machine and model."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from srsdk.processor import processor
from srsdk.system import cache_folder, discard

log = logging.getLogger("srsdk")

SCHEMA = 2


@dataclass(frozen=True)
class Trial:
    """One candidate's result."""

    name: str
    """`fp32`, `bf16` or `int8`."""
    ms: float
    """Median time of the probe; 0 where it does not run."""
    parity_db: float
    """PSNR against the file as it is; 0 where it does not run."""
    passed: bool
    """Whether it may be chosen."""
    why: str
    """Why not."""


@dataclass(frozen=True)
class Choice:
    """What is fastest for one model on one machine."""

    file: str
    """Name of the file, in the folder of the one that was asked for."""
    precision: str
    """As for the Upscaler: `auto`, or `bf16`."""
    name: str
    """`fp32`, `bf16` or `int8`."""
    speed_up: float
    """How many times as fast as the file as it is."""
    tile_budget_px: int
    """Largest tile, source pixels."""
    trials: tuple[Trial, ...]
    """All candidates."""
    tiles_ms: dict[str, float]
    """Time of a tile by its size."""

    def __str__(self) -> str:
        return f"tuned: {self.name}, {self.speed_up:.1f}x"


def folder() -> Path:
    """Return where choices are kept: `SRSDK_CACHE`, or the system's cache folder of this user."""
    named = os.environ.get("SRSDK_CACHE")
    return Path(named) if named else cache_folder()


def key(files: Sequence[Path], backend: str, threads: int | None) -> str:
    """Name a question: files, processor, cores, versions. A change of any is a new question."""
    asked = {
        "schema": SCHEMA,
        "files": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
        "processor": str(processor()),
        "cores": _cores(),
        "versions": [importlib.metadata.version(backend)],
        "backend": backend,
        "threads": threads,
    }
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def load(name: str) -> Choice | None:
    """Return a remembered choice; None where there is none, or none that can be read."""
    path = _path(name)
    try:
        if not path.is_file():
            return None
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        trials = tuple(Trial(**trial) for trial in values.pop("trials"))
        return Choice(trials=trials, **values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("tune: %s is damaged and is measured anew: %s", path, error)
        return None


def save(name: str, choice: Choice) -> None:
    """Remember a choice; a folder that cannot be written costs a warning, not the choice."""
    path = _path(name)
    try:
        write(path, json.dumps(asdict(choice), indent=1))
    except OSError as error:
        log.warning(
            "tune: the choice cannot be kept in %s and is measured anew next time: %s; "
            "SRSDK_CACHE names another folder",
            path.parent,
            error,
        )


def write(path: Path, text: str) -> None:
    """Write a small file whole or not at all; makes its folder.

    Raises:
        OSError: it cannot be written; nothing is left behind.
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


def _path(name: str) -> Path:
    return folder() / f"tune-{name}.json"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
