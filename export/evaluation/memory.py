"""Measure the memory that a graph's activations take, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from export.errors import ExportError

SIDE_PX = 256
TIMEOUT_S = 900
_CHILD = """
import resource, sys
import numpy as np
import onnxruntime

def resident():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # forget the peak of opening the file
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0

options = onnxruntime.SessionOptions()
options.log_severity_level = 4
path, channels, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
picture = np.zeros((1, side, side, channels), np.uint8)
before = resident()
session.run(None, {session.get_inputs()[0].name: picture})
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    with open("/proc/self/status") as file:
        found = [line.split()[1] for line in file if line.startswith("VmHWM")]
    peak = int(found[0]) * 1024
except OSError:
    peak *= 1 if sys.platform == "darwin" else 1024
print(max(1, (peak - before) // side**2))
"""
"""It loads nothing but ONNX Runtime, whose own memory would be counted otherwise. Where the system
does not tell a process's memory before the run, all of it counts."""


def bytes_per_px(model: onnx.ModelProto, channels: int, multiple_px: int) -> int:
    """Return the peak memory of a run in ONNX Runtime, per pixel of the input.

    Args:
        model: graph with a uint8 boundary that accepts any size.
        channels: of the input.
        multiple_px: input sizes are multiples of this.

    Returns:
        Bytes, or 0 where the system does not report a process's peak (Windows).

    Raises:
        ExportError: the graph does not run.
    """
    if sys.platform == "win32":
        return 0
    side = -(-SIDE_PX // multiple_px) * multiple_px
    with TemporaryDirectory() as folder:
        path = Path(folder, "graph.onnx")
        onnx.save(model, path)
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(path), str(channels), str(side)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        )
    if done.returncode:
        raise ExportError(f"a run on {side}x{side} px failed: {done.stderr.strip()[-300:]}")
    return int(done.stdout)
