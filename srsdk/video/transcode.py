"""Upscale a video file and keep everything but its pixels."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat, takewhile
from pathlib import Path
from typing import Any

from srsdk.errors import OutputError, UsageError
from srsdk.scheduling.context import Progress
from srsdk.scheduling.futures import window
from srsdk.scheduling.waiting import result_of
from srsdk.system.paths import is_same_file
from srsdk.system.threads import started_pool
from srsdk.upscaler import Upscaler
from srsdk.video.encoding import Encoding
from srsdk.video.incremental import Incremental, Job
from srsdk.video.muxing import assemble, check_container
from srsdk.video.part_files import PartWriter
from srsdk.video.parts import Parts
from srsdk.video.run_files import resume_key
from srsdk.video.source import Frame, Source, frames, probe
from srsdk.video.targets import check_collisions, check_free, check_target, partial_name

log = logging.getLogger("srsdk")

DECODED_AHEAD = 4
ENCODED_BEHIND = 4
"""Frames buffered before and after the network, so that no stage waits for another."""


@dataclass(frozen=True)
class Report:
    """Result of a run."""

    target: Path
    frames: int
    """Frames in the target."""
    computed: int
    """Frames upscaled in this run, in whole or in part; the others were repeated, or done by an
    earlier run."""
    repeated: int
    """Frames of which nothing was computed, because they are equal to the one before."""
    computed_share: float
    """Share of the pixels of this run's frames that were computed; the rest is equal to the frame
    before. Up to 1."""
    seconds: float
    """Duration of this run."""


def upscale(
    up: Upscaler,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    codec: str | None = None,
    crf: int | None = None,
    preset: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Upscale a video file into another; the suffix of `target` sets the container format.

    Audio, subtitles, attachments, chapters and titles are copied; time stamps, variable frame rate,
    color matrix and range, bit depth, pixel aspect and rotation are kept. Decoding, upscaling and
    encoding overlap. A `KeyboardInterrupt`, raised by Ctrl-C or by `progress`, leaves the finished
    frames in a `.partial` file next to the target; `resume` continues the run.

    Args:
        up: the Upscaler to use; it sets scale and model.
        source: a video file that FFmpeg can read.
        target: `.mkv` holds every kind of stream; `.mp4`, `.mov` and `.webm` only some.
        codec: name of an FFmpeg encoder; None: `libx264`, or `libx265` for more than 8 bits, or
            `libvpx-vp9` in `.webm`.
        crf: constant quality of the encoder, lower is better; None: visually lossless.
        preset: speed preset of the encoder; None: `fast` or its equivalent, and for networks for
            luma, which take less time than that, `faster`.
        overwrite: replace the target and discard an interrupted run.
        resume: continue an interrupted run.
        progress: called with (frames done, frames in total) after each frame; the total is 0 if
            unknown.

    Raises:
        PictureError: no video stream, interlaced, or with transparency.
        UsageError: an unknown encoder, or an interrupted run with other settings.
        OutputError: the target exists, cannot be written, or cannot hold a stream of the source.
        BackendError: PyAV is not installed, or the model failed.
    """
    target = Path(target)
    check_target(target, overwrite=overwrite)
    about = probe(Path(source))
    if is_same_file(target, about.path):
        raise UsageError(f"{target} would be replaced by its own result")
    realtime = up.manifest.channels == 1
    encoding = Encoding.choose(
        about, target, up.scale, codec=codec, crf=crf, preset=preset, realtime=realtime
    )
    check_container(target, about, encoding)
    parts = Parts(target, resume_key(about, encoding, up.manifest.to_dict()))
    began_s = time.monotonic()
    with parts.locked():
        resume = parts.check(resume=resume, overwrite=overwrite)
        check_collisions(about.path, target, parts, overwrite=overwrite)
        parts.prepare(resume=resume)
        run = _Run(up, about, encoding, parts)
        _finish(run, target, progress, overwrite=overwrite)
    seconds = time.monotonic() - began_s
    return Report(target, run.done, run.computed, run.repeated, run.computed_share, seconds)


def _finish(run: _Run, target: Path, progress: Progress | None, *, overwrite: bool) -> None:
    """Compute what is missing and write the target, or after an interrupt the partial file."""
    partial = partial_name(target)
    try:
        run.execute(progress)
    except KeyboardInterrupt:
        run.write_partial(partial, overwrite=overwrite)
        raise
    run.write(target, overwrite=overwrite)
    if run.parts.made(partial):
        partial.unlink()
    run.parts.remove()


class _Run:
    """One pass over the remaining frames."""

    def __init__(self, up: Upscaler, source: Source, encoding: Encoding, parts: Parts) -> None:
        self._up, self._source, self._encoding, self.parts = up, source, encoding, parts
        self.done = parts.frames
        self.computed = self.repeated = self._decoded = 0
        self._writer = PartWriter(parts, source, encoding)
        self._planes = encoding.format if _takes_planes(up, source) else ""
        self._incremental = Incremental(up, source.height, source.width)
        self._in_flight: deque[Future[Any]] = deque()
        self._stopped = threading.Event()

    def execute(self, progress: Progress | None) -> None:
        """Decode, upscale and encode all remaining frames, each stage in its own threads."""
        with (
            started_pool(1, "srsdk-decode") as decoder,
            started_pool(1, "srsdk-encode") as encoder,
            closing(frames(self._source, self._is_done, planes=self._planes)) as decoded,
        ):
            try:
                self._compute(decoder, decoded, encoder, progress)
                result_of(encoder.submit(self._writer.finish))
            except BaseException as error:
                self._stopped.set()
                for future in self._in_flight:
                    future.cancel()
                encoder.shutdown(wait=True, cancel_futures=True)
                if not isinstance(error, KeyboardInterrupt):
                    self._writer.abandon()
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

    def write(self, target: Path, *, overwrite: bool) -> None:
        """Write the whole video."""
        parts = self.parts.beginning()
        found = sum(part.frames for part in parts)
        if not found == self.done == self._decoded:
            raise OutputError(
                f"{self.parts.folder} holds {found} of {self._decoded} frames; --resume "
                "(API: resume=True) computes what is missing"
            )

        def check(_: Path) -> None:
            # somebody else may have written it since the run began
            check_free(target, overwrite=overwrite)

        assemble(parts, target, self._source, self._encoding, before=check)

    def write_partial(self, target: Path, *, overwrite: bool) -> None:
        """After an interrupt, write the finished frames into a playable file."""
        short = self._writer.finish_short()
        parts = self.parts.beginning()
        if short and short.number == len(parts):
            parts.append(short)
        if parts and not self.parts.made(target) and os.path.lexists(target) and not overwrite:
            log.warning("%s was written by another program and is kept as it is", target)
        elif parts:
            note = self.parts.note
            assemble(parts, target, self._source, self._encoding, before=note, whole=False)
        if short:
            short.path.unlink()

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
        self._decoded = index + 1
        return self.parts.holds(index)

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
        self._writer.add(pixels, frame)


def _takes_planes(up: Upscaler, source: Source) -> bool:
    """Whether the network enlarges luma of 8 bits, and the video has it: no RGB in between."""
    # FFmpeg takes gray as full range, whatever the file says
    has_luma = source.format.startswith(("yuv", "nv1", "nv2"))
    return up.manifest.channels == 1 and source.bits == 8 and has_luma


def _is_frame(frame: Frame | None) -> bool:
    return frame is not None
