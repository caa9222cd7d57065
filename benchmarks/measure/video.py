"""Measure the video workload from decode to encode, through `srsdk.video`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import srsdk
from benchmarks.workloads import WORKLOADS, frames

RATE = 25
PRESET = "veryfast"


def measure(model: str, count: int, **options: Any) -> dict[str, Any]:
    """Upscale a video of `count` frames of 640x360; H.264 in and out.

    Returns:
        `ms` between finished frames, `fps` of the whole run, `computed` frames, the encoder's
        `preset`.
    """
    from srsdk.video import transcode

    finished: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.mp4"
        write(source, count)
        with srsdk.Upscaler(model, optimize="throughput", **options) as up:
            began = time.perf_counter()
            done = transcode.upscale(
                up,
                source,
                Path(folder) / "large.mp4",
                preset=PRESET,
                progress=lambda *_: finished.append(time.perf_counter()),
            )
            seconds = time.perf_counter() - began
    ms = [1000 * (b - a) for a, b in zip([began, *finished], finished, strict=False)]
    return {"ms": ms, "fps": done.frames / seconds, "computed": done.computed, "preset": PRESET}


def write(path: Path, count: int) -> None:
    """Write the moving scene as H.264."""
    import av

    workload = WORKLOADS["video"]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = workload.width, workload.height, "yuv420p"
        for frame in frames(workload, count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.copy(), format="rgb24")))
        container.mux(stream.encode())
