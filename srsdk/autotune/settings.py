"""Settings to run a model with: file, precision and tile sizes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from srsdk.errors import UsageError
from srsdk.inference.planner import TILE_BUDGETS_PX
from srsdk.manifest import read_manifest

Precision = Literal["auto", "bf16"]
PRECISIONS = ("auto", "bf16")


@dataclass(frozen=True)
class Settings:
    """Settings chosen before a model is opened."""

    path: Path
    """The file to open."""
    precision: Precision = "auto"
    """`auto`, the precision of the file, or `bf16`."""
    tile_budgets_px: tuple[int, ...] = TILE_BUDGETS_PX
    """Tile areas that `tile="auto"` chooses from, in source pixels."""
    suffix: str = ""
    """What `repr()` adds to the precision of the file."""


def choose_settings(
    path: Path, precision: str, *, tune: bool, backend: str, threads: int | None
) -> Settings:
    """Choose the settings to run a file with, tuning them if `tune` is set.

    Raises:
        UsageError: an unknown precision, bfloat16 for a file that is not float32, or a precision
            together with `tune`, which chooses one.
        ModelError, BackendError: a trial cannot run.
        SelfTestError: the file gives wrong results on this machine.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if tune:
        if precision != "auto":
            raise UsageError("tune chooses the precision: omit one of the two")
        return _tuned(path, backend, threads)
    if precision == "auto":
        return Settings(path)
    manifest = None if path.suffix == ".engine" else read_manifest(path)
    # an INT8 file with bfloat16 between its layers measured 14 levels off
    if path.suffix == ".engine" or (manifest is not None and manifest.precision != "fp32"):
        have = "an engine" if manifest is None else manifest.precision
        raise UsageError(f"precision 'bf16' is for float32 files, {path.name} is {have}")
    return Settings(path, "bf16", suffix=" in bf16")


def _tuned(path: Path, backend: str, threads: int | None) -> Settings:
    # imported here because most programs never tune
    from srsdk.autotune.trials import tuned

    choice = tuned(path, backend=backend, threads=threads)
    precision: Precision = "bf16" if choice.precision == "bf16" else "auto"
    in_bf16 = " in bf16" if precision == "bf16" else ""
    side = round(choice.tile_budget_px**0.5)
    suffix = f"{in_bf16} ({choice}, tiles up to {side}x{side})"
    return Settings(path.with_name(choice.file), precision, (choice.tile_budget_px,), suffix)


def streams_of(optimize: object, threads: int | None) -> int:
    """Return how many tiles compute at the same time; one more is cut or pasted meanwhile."""
    if optimize == "latency":
        return 1
    if optimize != "throughput":
        raise UsageError(f"optimize is {optimize!r}, expected 'latency' or 'throughput'")
    return threads or cpu_count()


def cpu_count() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
