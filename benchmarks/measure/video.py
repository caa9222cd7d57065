"""Measure video from decode to encode, through `srsdk.video`, beside a plain kernel."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

import srsdk
from benchmarks.workloads import Workload, frames

Plane = npt.NDArray[np.uint8]

RATE = 25
PRESETS = {1: "faster", 3: "fast"}
"""The default encoder presets of `srsdk video` by channels of the network."""
ROUNDS = 3
RADIUS_PX = 7
"""Pixels that a plain kernel or a small network may look at."""
WORKERS = 2


def measure(model: str, workload: Workload, count: int, **options: Any) -> dict[str, Any]:
    """Upscale a video of `count` frames in turns with the model and with a bicubic kernel.

    Both runs of a round decode, enlarge and encode the same H.264 file with the same settings; the
    kernel enlarges luma in place of the network.

    Returns:
        `ms` between finished frames of the first round; medians of the rounds: `fps`, `cpu_ms` of
        processor time per frame, `bicubic_fps`, and `of_bicubic`, the ratio of the two within a
        round; `computed` frames, `computed_share` of their pixels, the encoder's `preset`.
    """
    from srsdk.video import transcode

    rounds, ms = [], list[float]()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.mp4", Path(folder) / "large.mp4"
        write(source, workload, count)
        for index in range(ROUNDS):
            finished: list[float] = []
            with srsdk.Upscaler(model, optimize="throughput", **options) as up:
                preset = PRESETS[up.manifest.channels]
                began, began_cpu = time.perf_counter(), time.process_time()
                done = transcode.upscale(
                    up,
                    source,
                    target,
                    preset=preset,
                    overwrite=True,
                    progress=lambda *_, to=finished: to.append(time.perf_counter()),
                )
                cpu_ms = 1000 * (time.process_time() - began_cpu) / done.frames
                plain = Plain(up.manifest, partial(swscale, scale=up.scale))
            if not index:
                ms = [1000 * (b - a) for a, b in zip([began, *finished], finished, strict=False)]
            with plain:
                other = transcode.upscale(plain, source, target, preset=preset, overwrite=True)  # type: ignore[arg-type]  # the same interface
            rounds.append((done.frames / done.seconds, cpu_ms, other.frames / other.seconds))
    return {
        "ms": ms,
        "fps": median(fps for fps, _, _ in rounds),
        "cpu_ms": median(cpu for _, cpu, _ in rounds),
        "bicubic_fps": median(fps for _, _, fps in rounds),
        "of_bicubic": median(fps / plain_fps for fps, _, plain_fps in rounds),
        "computed": done.computed,
        "computed_share": done.computed_share,
        "preset": preset,
    }


class Plain:
    """What `srsdk.video` uses of an Upscaler, with any function in the network's place.

    Args:
        manifest: of the model that it stands for.
        enlarge: maps luma, (H, W) uint8, to (H * scale, W * scale).
        workers: threads that call it at the same time.
    """

    device = "cpu"
    ahead = 2 * WORKERS

    def __init__(
        self,
        manifest: srsdk.manifest.Manifest,
        enlarge: Callable[[Plane], Plane],
        workers: int = WORKERS,
    ) -> None:
        self.manifest = replace(
            manifest, name="plain", channels=1, multiple_px=1, radius_px=RADIUS_PX
        )
        self.scale = manifest.scale
        self._enlarge = enlarge
        self._pool = ThreadPoolExecutor(workers)

    def submit(self, luma: Plane) -> Future[Plane]:
        """Enlarge (H, W) in the background."""
        return self._pool.submit(self._enlarge, luma)

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


def swscale(luma: Plane, scale: int) -> Plane:
    """Enlarge (H, W) with libswscale's bicubic kernel."""
    import av

    gray = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(luma), "gray8")
    height, width = (side * scale for side in luma.shape)
    large = av.video.reformatter.VideoReformatter().reformat(
        gray, width, height, interpolation="BICUBIC", threads=1
    )
    return np.asarray(large.to_ndarray(), np.uint8)


def write(path: Path, workload: Workload, count: int) -> None:
    """Write the frames of a workload as H.264."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = workload.width, workload.height, "yuv420p"
        for frame in frames(workload, count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.copy(), format="rgb24")))
        container.mux(stream.encode())
