"""Memory: what a picture needs, what there is, and a refusal before it runs out.

The system's killer gives no error to catch: it has to be known before.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from srsdk.errors import PictureError

SHARE = 0.8
"""Of the available memory that one picture may take: others live here too."""
CONTROL_GROUP = Path("/sys/fs/cgroup")
FIXED_BYTES = 320 << 20
"""What tiles, libraries and their buffers take beside a picture."""
ALWAYS_FINE_BYTES = 64 << 20
"""What is not worth a look at the system."""


def of_result(height: int, width: int, dtype: npt.DTypeLike, *, has_alpha: bool) -> int:
    """Return the bytes of a result in memory, as an array."""
    return height * width * (3 + has_alpha) * np.dtype(dtype).itemsize


def check(need_bytes: int, limit_bytes: int | None, mend: str = "") -> None:
    """Refuse what does not fit.

    Raises:
        PictureError: with the bytes needed and those that may be had.
    """
    if limit_bytes is None and need_bytes <= ALWAYS_FINE_BYTES:
        return
    allowed = allowance(limit_bytes)
    if need_bytes <= allowed:
        return
    given = "are allowed" if limit_bytes is not None and limit_bytes <= allowed else "may be had"
    raise PictureError(
        f"the picture needs {need_bytes:,} bytes of memory, {allowed:,} {given}"
        + (f": {mend}" if mend else "")
    )


def allowance(limit_bytes: int | None) -> int:
    """Return the bytes that one picture may take: the limit, never more than is available."""
    free = available_bytes()
    share = int(free * SHARE) if free is not None else None
    if limit_bytes is None:
        return share if share is not None else sys.maxsize
    return limit_bytes if share is None else min(limit_bytes, share)


def available_bytes() -> int | None:
    """Return the memory that can be had without swapping; None where the system does not tell.

    On Linux the smallest of the machine's, the control group's (a container's) and the process's
    limit; on Windows and macOS the machine's.
    """
    if platform.system() == "Linux":
        found = [_meminfo(), _control_group(), _address_space()]
        return min((value for value in found if value is not None), default=None)
    if os.name == "nt":
        return _windows()
    return _physical_half()


def _meminfo() -> int | None:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _control_group() -> int | None:
    """Return what is left under the limit of cgroup version 2, or of version 1."""
    folder = CONTROL_GROUP
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        values = [_lines(folder / name) for name in (limit, used)]
        if all(values) and all(lines[0].isdecimal() for lines in values):
            # cached files count as used but are given up on demand
            cached = _cached(folder / limit)
            return max(0, int(values[0][0]) - int(values[1][0]) + cached)
    return None


def _cached(limit: Path) -> int:
    for line in _lines(limit.with_name("memory.stat")):
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _address_space() -> int | None:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    lines = _lines(Path("/proc/self/statm"))
    if limit == resource.RLIM_INFINITY or not lines:
        return None
    return max(0, limit - int(lines[0].split()[0]) * os.sysconf("SC_PAGE_SIZE"))


def _windows() -> int | None:
    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *(
                (name, ctypes.c_ulonglong)
                for name in ("total", "free", "total_page", "free_page", "total_virtual")
            ),
            ("free_virtual", ctypes.c_ulonglong),
            ("free_extended", ctypes.c_ulonglong),
        )

    status = Status(length=ctypes.sizeof(Status))
    kernel = ctypes.CDLL("kernel32")
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    # what may be promised to all processes together ends before the address space does
    return min(int(status.free), int(status.free_page), int(status.free_virtual))


def _physical_half() -> int | None:
    """Half of what is built in: macOS tells what is free in no simple way."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return []
