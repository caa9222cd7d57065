"""The video workload, through the runtime's own video path where it has one."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

import srsdk
from benchmarks.workloads import WORKLOADS, frames


def measure(model: str, count: int, **options: Any) -> dict[str, Any]:
    """Upscale `count` frames of 640x360, array to array, one after the other.

    Returns:
        `ms` of each frame, `fps`, and `path`: what the frames went through.
    """
    source = [frame.copy() for frame in frames(WORKLOADS["video"], count)]
    with srsdk.Upscaler(model, **options) as up:
        up(source[0])
        ms = []
        for frame in source:
            began = time.perf_counter()
            up(frame)
            ms.append(1000 * (time.perf_counter() - began))
    return {"ms": ms, "fps": 1000 * len(ms) / sum(ms), "path": "Upscaler, frame by frame"}


def has_video() -> bool:
    """Say whether the runtime has a video path: decode to encode is measured with it."""
    return importlib.util.find_spec("srsdk.video") is not None
