"""Run one section of `gpu-check` in this process: `python -m benchmarks.gpu.child NAME SETUP OUT`.

A process per section, because after some CUDA errors a process can never use the GPU again.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.job import Job, Missing, Setup
from benchmarks.gpu.needs import lacking

PARENT_S = 1.0
"""How often to look whether the parent is alive."""


def main(argv: list[str]) -> int:
    """Run `module:function` and write its record; exit code 0 also if something is missing."""
    work, needs, seconds, setup, out = argv
    _die_with_parent()
    job = Job(Setup.from_json(setup), float(seconds), _writer(Path(out)))
    try:
        reasons = lacking(tuple(needs.split(",")) if needs else (), job.setup, on_gpu=True)
        if reasons:
            raise Missing("; ".join(reasons))
        _function(work)(job)
    except Missing as error:
        job.publish({**job.record(), "missing": str(error)})
    except Exception as error:  # recorded with its reason; the traceback goes to the log
        traceback.print_exc()
        text = " ".join(str(error).split())[:500]
        job.publish({**job.record(), "error": f"{type(error).__name__}: {text}"})
    else:
        job.publish({**job.record(), "finished": True})
    return 0


def _function(work: str) -> Callable[[Job], None]:
    module, _, name = work.partition(":")
    found: Callable[[Job], None] = getattr(importlib.import_module(module), name)
    return found


def _writer(path: Path) -> Callable[[dict[str, Any]], None]:
    def write(record: dict[str, Any]) -> None:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, default=str), encoding="utf-8")
        os.replace(temporary, path)

    return write


def _die_with_parent() -> None:
    """End this process and those it started if the command is killed: nothing may hold the GPU."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_S)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
