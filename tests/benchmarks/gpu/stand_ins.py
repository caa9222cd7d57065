"""Sections that need no GPU and do what real ones may do: end, die, hang, lack something."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

from benchmarks.gpu.job import Job, Missing
from benchmarks.gpu.record import NAME


def fine(job: Job) -> None:
    """End well, and record what the record held when it began."""
    record = json.loads((job.setup.out / NAME).read_text(encoding="utf-8"))
    job.keep(before=list(record["sections"]))
    job.check("one is one", True, 1)


def dies(job: Job) -> None:
    """Die as after a wrong access in a driver, after half of the work."""
    job.keep(half=1)
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(job: Job) -> None:
    """Start a program and never return, after half of the work."""
    program = subprocess.Popen(["sleep", "600"])
    (job.setup.out / "pids").write_text(f"{os.getpid()} {program.pid}", encoding="utf-8")
    job.keep(half=1)
    time.sleep(600)


def raises(job: Job) -> None:
    """Fail with an exception."""
    raise RuntimeError("the driver said no")


def lacks(job: Job) -> None:
    """Find that something is missing."""
    raise Missing("no such library here")


def wrong(job: Job) -> None:
    """Find that a check does not hold."""
    job.check("black is white", False, 0)
    job.check("one is one", True)
