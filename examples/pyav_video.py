"""Upscale the frames of a video in a PyAV loop: `python examples/pyav_video.py IN OUT.mp4`.

For programs that do more with each frame; `srsdk video IN OUT` also keeps sound, subtitles, time
stamps and colors, and computes only what changes. `pip install "srsdk[cpu,video]"`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer

import srsdk


def frames_of(container: InputContainer) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the frames of a video as (H, W, 3) RGB."""
    for frame in container.decode(video=0):
        pixels: npt.NDArray[Any] = frame.to_ndarray(format="rgb24")
        yield pixels


def main(source: str, target: str) -> None:
    """Upscale while the next frames are decoded; `stream` holds only a few frames."""
    with (
        srsdk.Upscaler("gan_x2", optimize="throughput") as up,
        av.open(source) as small,
        av.open(target, "w") as container,
    ):
        before = small.streams.video[0]
        video = container.add_stream("libx264", rate=before.average_rate)
        video.height, video.width = before.height * up.scale, before.width * up.scale
        video.pix_fmt = "yuv420p"
        for large in up.stream(frames_of(small)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
        container.mux(video.encode(None))


if __name__ == "__main__":
    main(*sys.argv[1:])
