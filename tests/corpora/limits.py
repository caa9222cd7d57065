"""Limits of the child, and what it holds: descriptors, threads, memory.

Systems lack some of them; those are named and left out.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path
from typing import Any

FILE_BYTES = 4 << 30
"""Largest file that a call may write."""
SETTLE_S = 2.0
"""How long threads that are about to end may take."""
STATUS = Path("/proc/self/status")


def limit(address_bytes: int) -> list[str]:
    """Limit address space, file size and core dumps; return the limits that the system lacks."""
    try:
        import resource
    except ImportError:
        return ["address space", "file size", "core dumps"]
    wanted = {
        "address space": (resource.RLIMIT_AS, address_bytes),
        "file size": (resource.RLIMIT_FSIZE, FILE_BYTES),
        "core dumps": (resource.RLIMIT_CORE, 0),
    }
    missing = []
    for name, (number, value) in wanted.items():
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        try:
            resource.setrlimit(number, (value, hard))
        except (OSError, ValueError):
            missing.append(name)
    return missing


def limit_processor(seconds: float) -> None:
    """End this process after so many more seconds of processor time, if nobody else does."""
    try:
        import resource
    except ImportError:
        return
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(time.process_time() + seconds) + 1
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def held() -> dict[str, int]:
    """Return how many descriptors and threads this process has; only those that can be counted."""
    found = {"threads": threading.active_count()}
    for name, folder in (("descriptors", "/dev/fd"), ("threads", "/proc/self/task")):
        try:
            found[name] = len(os.listdir(folder))
        except OSError:
            continue
    return found


def grown(before: dict[str, int], settle_s: float) -> dict[str, int]:
    """Return by how much each count is above `before`, after at most `settle_s`."""
    end_s = time.monotonic() + settle_s
    while True:
        more = {name: count - before[name] for name, count in held().items()}
        if max(more.values()) <= 0 or time.monotonic() >= end_s:
            return {name: count for name, count in more.items() if count > 0}
        gc.collect()
        time.sleep(0.05)


class Peak:
    """The most memory that was resident since the beginning, in addition to what was then."""

    def __init__(self) -> None:
        self._exact = STATUS.exists()
        if self._exact:
            try:
                Path("/proc/self/clear_refs").write_text("5")
            except OSError:
                self._exact = False
        self._before = self._read("VmRSS:") if self._exact else _lifetime_bytes()

    def grown_bytes(self) -> int:
        """Return the growth; where the system keeps one peak per process, that of the peak."""
        now = self._read("VmHWM:") if self._exact else _lifetime_bytes()
        return max(0, now - self._before)

    def _read(self, field: str) -> int:
        lines = STATUS.read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def _lifetime_bytes() -> int:
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    used: Any = resource.getrusage(resource.RUSAGE_SELF)
    return int(used.ru_maxrss) * unit
