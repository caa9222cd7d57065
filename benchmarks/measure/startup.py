"""Measure startup: import, opening a model, the first call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

import srsdk
from benchmarks import machine
from benchmarks.workloads import WORKLOADS, picture
from srsdk.system import user_cache

IMPORTS = ("import numpy, PIL.Image", "import numpy, PIL.Image, srsdk")
_ONCE = """
import json, sys
from benchmarks.measure.startup import once
model, workload, options = json.loads(sys.argv[1])
print(json.dumps(once(model, workload, **options)))
"""


def measure(model: str, workload: str, **options: Any) -> dict[str, Any]:
    """Open a model and call it twice, without a cache and with one; expects a fresh process.

    Returns:
        `load_ms`: creating the Upscaler, including the backend's import; `first_ms`: the first
        call; `second_ms`: the second call; all with the cache of an earlier process.
        `cold_load_ms`, `cold_first_ms`: the same with an empty cache, in a process of its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ[user_cache.VARIABLE] = folder
        call = [sys.executable, "-c", _ONCE, json.dumps([model, workload, options])]
        done = subprocess.run(call, capture_output=True, text=True, check=True, cwd=machine.ROOT)
        cold = json.loads(done.stdout.splitlines()[-1])
        warm = once(model, workload, **options)
    return {**warm, **{f"cold_{name}": cold[name] for name in ("load_ms", "first_ms")}}


def once(model: str, workload: str, **options: Any) -> dict[str, float]:
    """Open a model and call it twice; return `load_ms`, `first_ms` and `second_ms`."""
    w = WORKLOADS[workload]
    source = picture(w.height, w.width)
    began = time.perf_counter()
    with srsdk.Upscaler(model, **options) as up:
        times = [time.perf_counter() - began]
        for _ in range(2):
            began = time.perf_counter()
            up(source)
            times.append(time.perf_counter() - began)
    return dict(zip(("load_ms", "first_ms", "second_ms"), (1000 * t for t in times), strict=True))


def import_ms(times: int) -> dict[str, Any]:
    """Time `import srsdk` on top of numpy and Pillow, in alternating new processes."""
    raw: list[list[float]] = [[], []]
    for _ in range(times):
        for index, code in enumerate(IMPORTS):
            raw[index].append(1000 * _seconds(code))
    differences = [b - a for a, b in zip(*raw, strict=True)]
    return {"import_ms": median(differences), "raw": {"without": raw[0], "with": raw[1]}}


def _seconds(code: str) -> float:
    timed = f"import time; t = time.perf_counter(); {code}; print(time.perf_counter() - t)"
    call = [sys.executable, "-c", timed]
    return float(subprocess.run(call, capture_output=True, text=True, check=True).stdout)
