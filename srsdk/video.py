"""Upscaling a video file; everything but its pixels stays as it is."""

from __future__ import annotations

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

import numpy as np
import numpy.typing as npt

from srsdk.call import Progress
from srsdk.errors import OutputError, UsageError
from srsdk.futures import window
from srsdk.media.encoding import Encoding
from srsdk.media.muxing import assemble, check_container
from srsdk.media.parts import Parts, PartWriter, key_of
from srsdk.media.source import Frame, Source, frames, probe
from srsdk.system import bad_name, result_of
from srsdk.upscaler import Upscaler

DECODED_AHEAD = 4
ENCODED_BEHIND = 4
"""Frames that wait on either side of the network, so that no stage waits for another."""


@dataclass(frozen=True)
class Report:
    """What a run did."""

    target: Path
    frames: int
    """In the target."""
    computed: int
    """By this run; the others were repetitions of the frame before, or of an earlier run."""
    repeated: int
    """Equal to the frame before, to the bit: not computed again."""
    seconds: float
    """Of this run."""


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
    """Upscale a video file into another, whose format its suffix names.

    Audio, subtitles, attachments, chapters and titles are copied; time stamps, variable frame rate,
    colour matrix and range, bit depth, pixel aspect and rotation are kept. Decoding, upscaling and
    encoding overlap. A `KeyboardInterrupt`, raised by Ctrl-C or by `progress`, leaves what is done
    beside the target, `.partial` in its name, and can be gone on with.

    Args:
        up: its scale and model count.
        source: a file that FFmpeg can read.
        target: `.mkv` holds everything; `.mp4`, `.mov` and `.webm` what they can.
        codec: an encoder's name in FFmpeg; None: `libx264`, with more than 8 bits `libx265`, in
            `.webm` `libvpx-vp9`.
        crf: the encoder's constant quality, lower is better; None: a high one.
        preset: the encoder's speed; None: `fast` or like it.
        overwrite: replace the target, and the parts of an interrupted run.
        resume: go on with an interrupted run.
        progress: called with (frames done, frames in all) after each frame; all is 0 where the
            file does not say.

    Raises:
        PictureError: no video, interlaced, or with transparency.
        UsageError: an unknown encoder; parts of another run.
        OutputError: the target exists, cannot be written, or cannot hold a stream of the source.
        BackendError: PyAV is not installed, or the model failed.
    """
    target = Path(target)
    _check_target(target, overwrite=overwrite)
    about = probe(Path(source))
    if target.exists() and target.samefile(about.path):
        raise UsageError(f"{target} would be replaced by its own result")
    encoding = Encoding.choose(about, target, up.scale, codec=codec, crf=crf, preset=preset)
    check_container(target, about, encoding)
    parts = Parts(target, key_of(about, encoding, up.manifest.to_dict()))
    parts.begin(resume=resume, overwrite=overwrite)
    run = _Run(up, about, encoding, parts)
    began_s = time.monotonic()
    try:
        run.go(progress)
    except KeyboardInterrupt:
        run.leave(partial_name(target))
        raise
    assemble(parts.finished(), target, about, encoding)
    parts.remove()
    partial_name(target).unlink(missing_ok=True)
    spent_s = time.monotonic() - began_s
    return Report(target, run.done, run.computed, run.repeated, spent_s)


def partial_name(target: Path) -> Path:
    """Return the name of what an interrupted run leaves."""
    return target.with_name(f"{target.stem}.partial{target.suffix}")


class _Run:
    """One pass over the frames that are not done yet."""

    def __init__(self, up: Upscaler, source: Source, encoding: Encoding, parts: Parts) -> None:
        self._up, self._source, self._encoding, self._parts = up, source, encoding, parts
        finished = parts.finished()
        self.done = parts.length * len(finished)
        self.computed = self.repeated = 0
        self._writer = PartWriter(parts, source, encoding, len(finished))
        self._last: tuple[npt.NDArray[Any], Future[Any]] | None = None
        self._flying: deque[Future[Any]] = deque()
        self._stopped = threading.Event()

    def go(self, progress: Progress | None) -> None:
        """Decode, upscale and encode to the end, each in its own threads."""
        decoder = ThreadPoolExecutor(1, thread_name_prefix="srsdk-decode")
        encoder = ThreadPoolExecutor(1, thread_name_prefix="srsdk-encode")
        decoded = frames(self._source, self.done)

        def send(frame: Frame) -> Future[None]:
            future = self._upscaled(frame.rgb)
            return encoder.submit(self._encode, frame, future)

        def fetch(_: None) -> Future[Frame | None]:
            return decoder.submit(next, decoded, None)

        ahead = window(fetch, repeat(None), DECODED_AHEAD)
        given: Iterator[Frame] = takewhile(_is_frame, ahead)  # type: ignore[arg-type]
        encoded = window(send, given, self._up.ahead + ENCODED_BEHIND)
        try:
            with closing(ahead), closing(encoded):
                for _ in encoded:
                    self.done += 1
                    if progress is not None:
                        progress(self.done, self._source.frames)
            result_of(encoder.submit(self._writer.finish))
        except BaseException as error:
            self._stopped.set()
            for future in self._flying:
                future.cancel()
            encoder.shutdown(wait=True, cancel_futures=True)
            if not isinstance(error, KeyboardInterrupt):
                self._writer.abandon()
            raise
        finally:
            decoder.shutdown(wait=True, cancel_futures=True)
            encoder.shutdown(wait=True)
            decoded.close()

    def leave(self, target: Path) -> None:
        """After an interrupt: write what is done into a file that plays."""
        short = self._writer.finish(whole=False)
        parts = [*self._parts.finished(), *([short] if short else [])]
        if parts:
            assemble(parts, target, self._source, self._encoding, whole=False)
        if short:
            short.unlink()

    def _upscaled(self, rgb: npt.NDArray[Any]) -> Future[Any]:
        """Begin a frame, or take the one before where they are equal."""
        if self._last is not None and np.array_equal(self._last[0], rgb):
            self.repeated += 1
            return self._last[1]
        self.computed += 1
        future = self._up.submit(rgb)
        self._last = rgb, future
        # a finished one is let go, because it holds its pixels
        while self._flying and self._flying[0].done():
            self._flying.popleft()
        self._flying.append(future)
        return future

    def _encode(self, frame: Frame, upscaled: Future[Any]) -> None:
        rgb = upscaled.result()
        if self._stopped.is_set():
            raise CancelledError  # the frame before may be missing, and no gap shall be written
        self._writer.add(rgb, frame.pts, frame.duration)


def _is_frame(frame: Frame | None) -> bool:
    return frame is not None


def _check_target(target: Path, *, overwrite: bool) -> None:
    folder = target.parent
    if why := bad_name(target.name):
        raise OutputError(f"{target} cannot be written: {why}")
    if not target.suffix:
        raise OutputError(f"{target} has no suffix that names a video format, such as .mkv")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"{folder} is no folder that can be written to")
    if target.is_dir():
        raise OutputError(f"{target} is a folder, expected a file name")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; --force (API: overwrite=True) replaces it")
