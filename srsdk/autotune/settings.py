"""Settings to run a model with: file, precision and tile sizes."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from srsdk.autotune.forms import int8_file, sibling, sibling_name
from srsdk.errors import ModelError, SelfTestError, UsageError
from srsdk.formats.tensorrt_plan import PLAN_SUFFIX
from srsdk.inference.planner import TILE_BUDGETS_PX
from srsdk.manifest import read_manifest
from srsdk.options import Precision
from srsdk.system.processor import processor

log = logging.getLogger("srsdk")

PRECISIONS = get_args(Precision)


@dataclass(frozen=True)
class Settings:
    """Settings chosen before a model is opened."""

    path: Path
    """The file to open."""
    precision: Literal["auto", "bf16"] = "auto"
    """What the backend computes in: `auto`, the precision of the file, or `bf16`."""
    tile_budgets_px: tuple[int, ...] = TILE_BUDGETS_PX
    """Tile areas that `tile="auto"` chooses from, in source pixels."""
    suffix: str = ""
    """What `repr()` adds to the precision of the file."""
    float32_path: Path | None = None
    """`path` is the INT8 file that `auto` chose instead of this one, which is opened if `path`
    fails, and for pictures with more than 8 bits; None: `path` is not a choice of `auto`."""
    device: str = ""
    """The device of OpenVINO that tuning chose instead of the CPU; empty: the one placed."""

    def without_int8(self, error: ModelError) -> Settings:
        """Return the settings of the float32 file, after the INT8 file has failed."""
        assert self.float32_path is not None
        failed = isinstance(error, SelfTestError)
        why = "int8 fails its self-test" if failed else "int8 cannot be opened"
        log.warning("precision auto: %s in float32, because %s", self.float32_path.name, error)
        return Settings(self.float32_path, suffix=f" (auto; {why} here)")


def choose_settings(
    path: Path,
    precision: str,
    *,
    tune: bool,
    backend: str,
    threads: int | None,
    may_replace: bool = False,
    on_gpu: bool = False,
    any_device: bool = False,
) -> Settings:
    """Choose the settings to run a file with, tuning them if `tune` is set.

    Args:
        path: the model file.
        precision: one of `PRECISIONS`.
        tune: measure which settings are the fastest.
        backend: the backend that runs the file.
        threads: CPU threads of the backend; None: its own choice.
        may_replace: `auto` may choose the INT8 file of the same weights.
        on_gpu: the file runs on a GPU, for which INT8 has a file of its own.
        any_device: the user named no device, so that tuning may choose one of OpenVINO's.

    Raises:
        UsageError: an unknown precision, one that the file does not have, or a precision together
            with `tune`, which chooses one.
        ModelError, BackendError: a trial cannot run.
        SelfTestError: the file gives wrong results on this machine.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if tune:
        if precision != "auto":
            raise UsageError("tune chooses the precision: omit one of the two")
        return _tuned(path, backend, threads, any_device=any_device)
    if precision == "auto":
        return _auto(path) if may_replace else Settings(path)
    if precision in ("fp16", "int8"):
        return Settings(_required(path, precision, on_gpu))
    _require_float32(path, precision)
    return Settings(path, "bf16", suffix=" in bf16") if precision == "bf16" else Settings(path)


def _auto(path: Path) -> Settings:
    """Choose the INT8 file where it was measured to be faster: x86 with AVX2 or more."""
    if "avx2" not in processor().instruction_sets:
        # without AVX2 INT8 was not measured, and OpenVINO on ARM64 computes it in float
        return Settings(path)
    try:
        int8 = int8_file(path)
    except ModelError as error:
        return Settings(path, float32_path=path).without_int8(error)
    if int8 is None:
        return Settings(path)
    log.info("precision auto: %s (precision='fp32' opens %s)", int8.name, path.name)
    suffix = " (auto; precision='fp32' for the float32 file)"
    return Settings(int8, suffix=suffix, float32_path=path)


def _required(path: Path, precision: str, on_gpu: bool) -> Path:
    manifest = read_manifest(path)
    if manifest is not None and manifest.precision == precision:
        return path
    found = sibling(path, precision, on_gpu=on_gpu)
    if found is None:
        name = sibling_name(path, precision, on_gpu=on_gpu)
        raise UsageError(
            f"precision={precision!r} needs {name} of the same weights beside {path.name}, which "
            "is not there: srsdk.list_models() names the precisions that are shipped, and from a "
            f"checkout of srsdk, python -m export SOURCE -o FOLDER --precision fp32,{precision} "
            "builds both files"
        )
    return found


def _require_float32(path: Path, precision: str) -> None:
    manifest = None if path.suffix == PLAN_SUFFIX else read_manifest(path)
    # an INT8 file with bfloat16 between its layers measured 14 levels off
    if path.suffix == PLAN_SUFFIX or (manifest is not None and manifest.precision != "fp32"):
        have = "an engine" if manifest is None else manifest.precision
        raise UsageError(f"precision={precision!r} is for float32 files, {path.name} is {have}")


def _tuned(path: Path, backend: str, threads: int | None, *, any_device: bool) -> Settings:
    # imported here because most programs never tune
    from srsdk.autotune.trials import tuned

    choice = tuned(path, backend=backend, threads=threads, any_device=any_device)
    precision: Literal["auto", "bf16"] = "bf16" if choice.precision == "bf16" else "auto"
    in_bf16 = " in bf16" if precision == "bf16" else ""
    side = round(choice.tile_budget_px**0.5)
    suffix = f"{in_bf16} ({choice}, tiles up to {side}x{side})"
    device = "" if choice.device == "cpu" else choice.device
    budgets_px = (choice.tile_budget_px,)
    return Settings(path.with_name(choice.file), precision, budgets_px, suffix, device=device)


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
