"""Measure where the time of one file goes: decode, stage, H2D, execute, D2H, paste, encode.

Steps between the arrays come from the runtime's profiler; decode and encode are timed by patching
them in this process.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import srsdk
from srsdk.image import decode
from srsdk.upscaling import files

STEPS = ("stage", "h2d", "execute", "d2h", "paste")


def measure(model: str, source: Path, target: Path, runs: int, **options: Any) -> dict[str, Any]:
    """Upscale a file `runs` times with one slot, so that stages follow each other and add up.

    Returns:
        `ms`: latencies by stage; `rest` is time outside all stages, `wall` the total.
    """
    ms: dict[str, list[float]] = defaultdict(list)
    with srsdk.Upscaler(model, slots=1, **options) as up:
        up.upscale_file(source, target, overwrite=True)
        for _ in range(runs):
            for name, value in _once(up, source, target).items():
                ms[name].append(value)
    return {"ms": dict(ms)}


def _once(up: srsdk.Upscaler, source: Path, target: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    with (
        patch.object(decode, "read", _timed(decode.read, "decode", found)),
        patch.object(files, "write_result", _timed(files.write_result, "encode", found)),
        up.profile() as calls,
    ):
        began = time.perf_counter()
        up.upscale_file(source, target, overwrite=True)
        wall = 1000 * (time.perf_counter() - began)
    found |= {step: getattr(calls[0], f"{step}_ms") for step in STEPS}
    return {**found, "rest": wall - sum(found.values()), "wall": wall}


def _timed(function: Callable[..., Any], name: str, found: dict[str, float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **keywords: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            found[name] = 1000 * (time.perf_counter() - began)

    return timed
