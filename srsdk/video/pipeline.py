"""Decode, upscale and encode the frames of a video, each stage in its own threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from itertools import repeat, takewhile
from typing import Any, Protocol

import numpy.typing as npt

from srsdk.scheduling.context import Progress
from srsdk.scheduling.futures import window
from srsdk.scheduling.waiting import result_of
from srsdk.system.threads import started_pool
from srsdk.upscaler import Upscaler
from srsdk.video.encoding import Encoding
from srsdk.video.incremental import Incremental, Job
from srsdk.video.source import Frame, Source

DECODED_AHEAD = 4
ENCODED_BEHIND = 4
"""Frames buffered before and after the network, so that no stage waits for another."""

Decode = Callable[[Callable[[int], bool], str], Generator[Frame, None, None]]
"""Yields the frames whose index is not done, in the given planar format; empty: as RGB."""


class Sink(Protocol):
    """Takes the enlarged frames, in order, in one thread."""

    @property
    def frames(self) -> int:
        """Number of frames that it holds already."""

    def holds(self, index: int) -> bool:
        """Return whether it holds the frame with this index already."""

    def add(self, pixels: npt.NDArray[Any], frame: Frame) -> None:
        """Take the enlarged pixels of a frame."""

    def finish(self) -> None:
        """Write what is buffered; no frame follows."""

    def abandon(self) -> None:
        """Discard what is incomplete, after an error."""


class Pipeline:
    """One pass over the remaining frames.

    Args:
        up: the Upscaler to use.
        source: properties of the video.
        encoding: settings of the encoder; its format is what luma and chroma are decoded to.
        sink: takes the enlarged frames.
        decode: yields the frames.
        stopped: set after an error or an interrupt, for what waits for input.
    """

    def __init__(
        self,
        up: Upscaler,
        source: Source,
        encoding: Encoding,
        sink: Sink,
        decode: Decode,
        *,
        stopped: threading.Event | None = None,
    ) -> None:
        self._up, self._source, self._sink, self._frames = up, source, sink, decode
        self.done = sink.frames
        self.computed = self.repeated = self.decoded = 0
        self._planes = encoding.format if _takes_planes(up, source) else ""
        self._incremental = Incremental(up, source.height, source.width)
        self._in_flight: deque[Future[Any]] = deque()
        self._stopped = stopped or threading.Event()

    def execute(self, progress: Progress | None) -> None:
        """Decode, upscale and encode all remaining frames."""
        with (
            started_pool(1, "srsdk-decode") as decoder,
            started_pool(1, "srsdk-encode") as encoder,
            closing(self._frames(self._is_done, self._planes)) as decoded,
        ):
            try:
                self._compute(decoder, decoded, encoder, progress)
                result_of(encoder.submit(self._sink.finish))
            except BaseException as error:
                self._stopped.set()
                for future in self._in_flight:
                    future.cancel()
                encoder.shutdown(wait=True, cancel_futures=True)
                if not isinstance(error, KeyboardInterrupt):
                    self._sink.abandon()
                raise
            finally:
                # a generator cannot be closed while its thread is in it
                decoder.shutdown(wait=True, cancel_futures=True)

    @property
    def computed_share(self) -> float:
        """Share of the pixels of this run's frames that were computed, up to 1."""
        frame_px = self._source.height * self._source.width
        all_px = (self.computed + self.repeated) * frame_px
        return self._incremental.computed_px / all_px if all_px else 0.0

    def _compute(
        self,
        decoder: ThreadPoolExecutor,
        decoded: Iterator[Frame],
        encoder: ThreadPoolExecutor,
        progress: Progress | None,
    ) -> None:
        def send(frame: Frame) -> Future[None]:
            return encoder.submit(self._encode, frame, self._upscaled(frame))

        def fetch(_: None) -> Future[Frame | None]:
            return decoder.submit(next, decoded, None)

        ahead = window(fetch, repeat(None), DECODED_AHEAD)
        given: Iterator[Frame] = takewhile(_is_frame, ahead)  # type: ignore[arg-type]
        encoded = window(send, given, self._up.ahead + ENCODED_BEHIND)
        with closing(ahead), closing(encoded):
            for _ in encoded:
                self.done += 1
                if progress is not None:
                    progress(self.done, self._source.frames)

    def _is_done(self, index: int) -> bool:
        self.decoded = index + 1
        return self._sink.holds(index)

    def _upscaled(self, frame: Frame) -> Job:
        """Submit what changed since the previous frame."""
        job = self._incremental.submit(frame.pixels)
        # drop finished futures, because they hold pixels
        while self._in_flight and self._in_flight[0].done():
            self._in_flight.popleft()
        self._in_flight.extend(job.futures())
        if job.whole is None and not job.parts:
            self.repeated += 1
        else:
            self.computed += 1
        return job

    def _encode(self, frame: Frame, job: Job) -> None:
        pixels = self._incremental.result(job)
        if self._stopped.is_set():
            raise CancelledError  # an earlier frame may be missing: never write a gap
        self._sink.add(pixels, frame)


def _takes_planes(up: Upscaler, source: Source) -> bool:
    """Whether the network enlarges luma of 8 bits, and the video has it: no RGB in between."""
    # FFmpeg takes gray as full range, whatever the file says
    has_luma = source.format.startswith(("yuv", "nv1", "nv2"))
    return up.manifest.channels == 1 and source.bits == 8 and has_luma


def _is_frame(frame: Frame | None) -> bool:
    return frame is not None
