"""Memory available to this process: of the machine, its container and its own limit."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """Return the memory available without swapping; None if the system does not report it.

    On Linux, the minimum for the machine, the control group (a container) and the process's own
    limit; on Windows and macOS, that of the machine.
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
    """Return the bytes left under the limit of cgroup v2, or of v1."""
    folder = CONTROL_GROUP
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        values = [_lines(folder / name) for name in (limit, used)]
        if all(values) and all(lines[0].isdecimal() for lines in values):
            # the page cache counts as used but is reclaimed on demand
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
    # the system's commit limit can be reached before the end of the address space
    return min(int(status.free), int(status.free_page), int(status.free_virtual))


def _physical_half() -> int | None:
    """Return half of the physical memory: macOS has no simple query for available memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return []
