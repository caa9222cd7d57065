"""Cache of tuning results in the user's cache folder: one small file per machine and model."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from srsdk.engines.backends import library_version
from srsdk.system import user_cache
from srsdk.system.processor import processor

log = logging.getLogger("srsdk")

SCHEMA = 3
"""3: with its length and SHA-256."""
ON = " on "
"""Between form and device in the name of a candidate."""
MAX_MS = 3_600_000.0
"""Longest time of a tile that is believed."""
MAX_SIDE_PX = 1 << 14
"""Largest tile that is believed."""


@dataclass(frozen=True)
class Trial:
    """Result of one candidate."""

    name: str
    """`fp32`, `bf16`, `int8`, or such as `fp16 on gpu`."""
    ms: float
    """Median time of the probe; 0 if it does not run."""
    parity_db: float
    """PSNR against the unchanged file; 0 if it does not run."""
    passed: bool
    """Whether it may be chosen."""
    why: str
    """Why it may not be chosen; empty if it passed."""


class Tried(NamedTuple):
    """A candidate, as a choice names it."""

    file: str
    precision: str
    name: str


@dataclass(frozen=True)
class Choice:
    """Fastest way to run one model on one machine."""

    file: str
    """Name of the file, in the same folder as the requested one."""
    precision: str
    """`auto` or `bf16`, as for the Upscaler."""
    name: str
    """`fp32`, `bf16` or `int8`; on another device than the CPU, with its name: `fp16 on gpu`."""
    speed_up: float
    """Speed relative to the unchanged file; 2.0 is twice as fast."""
    tile_budget_px: int
    """Largest tile area in source pixels."""
    trials: tuple[Trial, ...]
    """Results of all candidates."""
    tiles_ms: dict[str, float]
    """Milliseconds of a tile by its size."""

    @property
    def device(self) -> str:
        """`cpu`, or another of OpenVINO's devices, as for the Upscaler."""
        return self.name.partition(ON)[2] or "cpu"

    def __str__(self) -> str:
        return f"tuned: {self.name}, {self.speed_up:.1f}x"


def key(
    files: Sequence[Path], backend: str, threads: int | None, devices: Sequence[str] = ()
) -> str:
    """Return the cache key: a hash of files, processor, cores, devices, versions and arguments."""
    facts = {
        "schema": SCHEMA,
        "files": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
        "processor": str(processor()),
        "cores": _cores(),
        "versions": [library_version(backend)],
        "backend": backend,
        "threads": threads,
    }
    if devices:
        facts["devices"] = list(devices)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def load(name: str, tried: Sequence[Tried]) -> Choice | None:
    """Return a cached choice among what was tried; None if there is none or it cannot be used."""
    path = _path(name)
    content = None if path is None else user_cache.load(path)
    if content is None:
        return None
    try:
        return parse(json.loads(content), tried)
    except (ValueError, RecursionError) as error:
        log.warning("tune: %s is damaged and is measured again: %s", path, error)
        return None


def parse(values: Any, tried: Sequence[Tried]) -> Choice:
    """Check the values of a choice: types, ranges, and that it names a candidate of this model.

    Args:
        values: a choice as plain values, of unknown origin.
        tried: the candidates of the model, in order.

    Raises:
        ValueError: names the first field that is wrong.
    """
    _check(isinstance(values, dict) and set(values) == _names(Choice), "its fields")
    trials = values["trials"]
    _check(isinstance(trials, list) and len(trials) == len(tried), "trials")
    checked = tuple(_trial(trial, one.name) for trial, one in zip(trials, tried, strict=True))
    chosen = Tried(values["file"], values["precision"], values["name"])
    passed = [one for one, trial in zip(tried, checked, strict=True) if trial.passed]
    _check(chosen in passed, "file, precision or name")
    _check(_is_number(values["speed_up"], 1e-6, 1e6), "speed_up")
    tiles = values["tiles_ms"]
    _check(isinstance(tiles, dict), "tiles_ms")
    _check(all(_is_number(ms, 0, MAX_MS) for ms in tiles.values()), "tiles_ms")
    budget = values["tile_budget_px"]
    _check(type(budget) is int and 0 < budget <= MAX_SIDE_PX**2, "tile_budget_px")
    side = math.isqrt(budget)
    _check(side**2 == budget and f"{side}x{side}" in tiles, "tile_budget_px")
    return Choice(**{**values, "trials": checked})


def save(name: str, choice: Choice) -> None:
    """Cache a choice; if the folder cannot be written, only log a warning."""
    path = _path(name)
    if path is not None:
        user_cache.store(path, json.dumps(asdict(choice), indent=1).encode())


def _path(name: str) -> Path | None:
    folder = user_cache.folder()
    return None if folder is None else folder / f"tune-{name}.json"


def _trial(values: Any, name: str) -> Trial:
    _check(isinstance(values, dict) and set(values) == _names(Trial), "trials")
    _check(values["name"] == name, "trials: name")
    _check(_is_number(values["ms"], 0, MAX_MS), "trials: ms")
    _check(_is_number(values["parity_db"], 0, 1e3), "trials: parity_db")
    _check(isinstance(values["passed"], bool), "trials: passed")
    _check(isinstance(values["why"], str), "trials: why")
    return Trial(**values)


def _names(kind: type[Trial] | type[Choice]) -> set[str]:
    return {field.name for field in fields(kind)}


def _is_number(value: Any, low: float, high: float) -> bool:
    # NaN is in no range
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} cannot be what was measured for this model")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
