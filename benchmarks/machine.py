"""Describe the machine, code and library versions behind a measurement."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from srsdk.system.processor import processor

ROOT = Path(__file__).parents[1]
LIBRARIES = (
    "numpy",
    "pillow",
    "onnxruntime",
    "openvino",
    "torch",
    "spandrel",
    "ncnn",
    "opencv-contrib-python-headless",
    "bm3d",
    "mlcommons-loadgen",
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def describe() -> dict[str, Any]:
    """Return what does not change during a run: processor, system, code, versions."""
    found = processor()
    return {
        "processor": found.name,
        "processor_kind": found.kind,
        "instruction_sets": list(found.instruction_sets),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_bytes": _memory_bytes(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "commit": commit(),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "srsdk")),
        "code_sha256": folder_sha256(ROOT / "srsdk"),
        "versions": versions(),
        "environment": {k: os.environ[k] for k in THREAD_VARIABLES if k in os.environ},
    }


def moment() -> dict[str, Any]:
    """Return what changes during a run: time, load, clocks in MHz; empty if unavailable."""
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else [],
        "clock_mhz": [float(value) for value in _cpuinfo("cpu MHz")],
    }


def usable_cores() -> int:
    """Return how many cores this process may use; a container may have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Return the versions of the installed libraries."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the checkout's commit; empty outside a checkout."""
    return _git("rev-parse", "HEAD")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def folder_sha256(folder: Path) -> str:
    """Return one SHA-256 over names and contents of all Python files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def command_line() -> str:
    """Return the current command; absolute paths are reduced to file names."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return " ".join(["python -m benchmarks", *words])


def peak_bytes() -> int | None:
    """Return the peak memory of this process; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, all others KiB
    return peak if sys.platform == "darwin" else peak * 1024


def _memory_bytes() -> int | None:
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cpuinfo(key: str) -> list[str]:
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        return []
    lines = information.read_text(encoding="utf-8").splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.startswith(key)]


def _git(*arguments: str) -> str:
    call = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    return done.stdout.strip()
