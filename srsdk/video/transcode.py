"""Upscale a video file and keep everything but its pixels."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from srsdk.errors import OutputError, UsageError
from srsdk.scheduling.context import Progress
from srsdk.system.paths import is_same_file
from srsdk.upscaler import Upscaler
from srsdk.video.encoding import Encoding
from srsdk.video.muxing import assemble, check_container
from srsdk.video.part_files import PartWriter
from srsdk.video.parts import Part, Parts
from srsdk.video.pipeline import Pipeline
from srsdk.video.pipes.transfer import to_file, to_stream
from srsdk.video.run_files import resume_key
from srsdk.video.source import Frame, Source, frames, probe
from srsdk.video.streams.selection import Selection
from srsdk.video.targets import (
    check_collisions,
    check_free,
    check_source,
    check_target,
    partial_name,
)

log = logging.getLogger("srsdk")


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
    source: str | os.PathLike[str] | BinaryIO,
    target: str | os.PathLike[str] | BinaryIO,
    *,
    codec: str | None = None,
    crf: int | None = None,
    preset: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    drop: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Upscale a video file into another; the suffix of `target` sets the container format.

    Audio, subtitles, attachments, chapters and titles are copied; text subtitles that the format
    of `target` has another kind of are converted. Time stamps, variable frame rate, color matrix
    and range, bit depth, pixel aspect and rotation are kept. Decoding, upscaling and encoding
    overlap. A `KeyboardInterrupt`, raised by Ctrl-C or by `progress`, leaves the finished frames in
    a `.partial` file next to the target; `resume` continues the run.

    Open files, such as pipes, are read or written in one pass: nothing can be resumed, and a
    `target` that is one gets the frames alone, as YUV4MPEG2 (y4m).

    Args:
        up: the Upscaler to use; it sets scale and model.
        source: a video file that FFmpeg can read, or a file open for reading, binary.
        target: `.mkv` holds every kind of stream; `.mp4`, `.mov` and `.webm` only some. Or a file
            open for writing, binary.
        codec: name of an FFmpeg encoder; None: `libx264`, or `libx265` for more than 8 bits, or
            `libvpx-vp9` in `.webm`.
        crf: constant quality of the encoder, lower is better; None: visually lossless.
        preset: speed preset of the encoder; None: `fast` or its equivalent, and for networks for
            luma, which take less time than that, `faster`.
        overwrite: replace the target and discard an interrupted run.
        resume: continue an interrupted run.
        drop: leave out streams that the format of `target` cannot hold, with a warning.
        progress: called with (frames done, frames in total) after each frame; the total is 0 if
            unknown.

    Raises:
        PictureError: no video stream, interlaced, or with transparency.
        UsageError: an unknown encoder, or an interrupted run with other settings.
        OutputError: the target exists, cannot be written, or cannot hold a stream of the source.
        BackendError: PyAV is not installed, or the model failed.
        BrokenPipeError: the reader of an open `target` has closed it.
    """
    began_s = time.monotonic()
    choose = _Choice(up, codec, crf, preset)
    if not isinstance(target, str | os.PathLike):
        choose.check_uncompressed(resume=resume)
        found = source if not isinstance(source, str | os.PathLike) else Path(source)
        done = to_stream(up, found, target, choose.y4m, progress)
        return _report(done, Path("-"), began_s)
    target = Path(target)
    if not isinstance(source, str | os.PathLike):
        if resume:
            raise UsageError("resume=True needs a file: what a pipe held cannot be read again")
        check_target(target, overwrite=overwrite)
        chosen = partial(choose.compressed, target=target)
        done = to_file(up, source, target, chosen, progress, overwrite=overwrite, drop=drop)
        return _report(done, target, began_s)
    check(source, target, overwrite=overwrite)
    about = probe(Path(source))
    encoding = choose.compressed(about, target=target)
    selection = check_container(target, about, encoding, drop=drop)
    parts = Parts(target, resume_key(about, encoding, up.manifest.to_dict()))
    with parts.locked():
        resume = parts.check(resume=resume, overwrite=overwrite)
        check_collisions(about.path, target, parts, overwrite=overwrite)
        parts.prepare(resume=resume)
        run = _Run(up, about, encoding, parts, selection)
        _finish(run, target, progress, overwrite=overwrite)
    return _report(run.pipeline, target, began_s)


def check(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Check both names as `upscale` does, before a model is opened.

    Raises:
        PictureError: the source is missing, not a regular file, or a picture.
        UsageError: both are the same file.
        OutputError: the target exists or cannot be written.
    """
    source, target = Path(source), Path(target)
    check_source(source)
    if is_same_file(target, source):
        raise UsageError(f"{target} would be replaced by its own result")
    check_target(target, overwrite=overwrite)


@dataclass(frozen=True)
class _Choice:
    """How the result is encoded."""

    up: Upscaler
    codec: str | None
    crf: int | None
    preset: str | None

    def compressed(self, source: Source, *, target: Path) -> Encoding:
        """Choose for a file."""
        realtime = self.up.manifest.channels == 1
        return Encoding.choose(
            source,
            target,
            self.up.scale,
            codec=self.codec,
            crf=self.crf,
            preset=self.preset,
            realtime=realtime,
        )

    def y4m(self, source: Source) -> Encoding:
        """Choose for an open file."""
        return Encoding.choose(source, Path("-"), self.up.scale, codec="rawvideo")

    def check_uncompressed(self, *, resume: bool) -> None:
        """Reject what an open file cannot have."""
        if resume:
            raise UsageError("resume=True needs a target with a name: a pipe keeps nothing")
        for name in ("codec", "crf", "preset"):
            if getattr(self, name) is not None:
                raise UsageError(f"{name}= is for files: a pipe gets y4m, which is uncompressed")


def _report(done: Pipeline, target: Path, began_s: float) -> Report:
    seconds = time.monotonic() - began_s
    return Report(target, done.done, done.computed, done.repeated, done.computed_share, seconds)


def _finish(run: _Run, target: Path, progress: Progress | None, *, overwrite: bool) -> None:
    """Compute what is missing and write the target, or after an interrupt the partial file."""
    short = partial_name(target)
    try:
        run.pipeline.execute(progress)
    except KeyboardInterrupt:
        run.write_partial(short, overwrite=overwrite)
        raise
    run.write(target, overwrite=overwrite)
    if run.parts.made(short):
        short.unlink()
    run.parts.remove()


class _Run:
    """One pass over the remaining frames, and the file that it ends with."""

    def __init__(
        self,
        up: Upscaler,
        source: Source,
        encoding: Encoding,
        parts: Parts,
        selection: Selection,
    ) -> None:
        self._source, self._encoding, self._selection = source, encoding, selection
        self.parts = parts
        self._writer = PartWriter(parts, source, encoding)
        self.pipeline = Pipeline(up, source, encoding, self._writer, self._decoded)

    def _decoded(self, is_done: Callable[[int], bool], planes: str) -> Generator[Frame, None, None]:
        return frames(self._source, is_done, planes=planes)

    def write(self, target: Path, *, overwrite: bool) -> None:
        """Write the whole video."""
        parts = self.parts.beginning()
        found = sum(part.frames for part in parts)
        if not found == self.pipeline.done == self.pipeline.decoded:
            raise OutputError(
                f"{self.parts.folder} holds {found} of {self.pipeline.decoded} frames; "
                "resume=True computes what is missing"
            )

        def check(_: Path) -> None:
            # somebody else may have written it since the run began
            check_free(target, overwrite=overwrite)

        self._assemble(parts, target, before=check)

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
            self._assemble(parts, target, before=note, whole=False)
        if short:
            short.path.unlink()

    def _assemble(
        self,
        parts: Sequence[Part],
        target: Path,
        *,
        before: Callable[[Path], None],
        whole: bool = True,
    ) -> None:
        assemble(
            parts,
            target,
            self._source,
            self._encoding,
            self._selection,
            before=before,
            whole=whole,
        )
