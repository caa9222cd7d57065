"""Upscale a video from or into an open file: one pass, nothing to resume."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from srsdk.scheduling.context import Progress
from srsdk.upscaler import Upscaler
from srsdk.video.encoding import Encoding
from srsdk.video.ffmpeg import open_input
from srsdk.video.pipeline import Pipeline
from srsdk.video.pipes.input import PipeInput
from srsdk.video.pipes.muxed import MuxedSink
from srsdk.video.pipes.y4m import Y4mSink
from srsdk.video.source import Frame, Source, frames, probe
from srsdk.video.streams.selection import COPIED, select
from srsdk.video.targets import check_free, partial_name

log = logging.getLogger("srsdk")

Choose = Callable[[Source], Encoding]
"""Chooses the settings of the encoder for a source."""


@dataclass(frozen=True)
class _Given:
    """Where frames come from."""

    source: Source
    pipe: PipeInput | None

    def frames(self, is_done: Callable[[int], bool], planes: str) -> Generator[Frame, None, None]:
        if self.pipe is not None:
            return self.pipe.frames(is_done, planes)
        return frames(self.source, is_done, planes=planes)


def to_stream(
    up: Upscaler,
    source: Path | BinaryIO,
    target: BinaryIO,
    choose: Choose,
    progress: Progress | None,
) -> Pipeline:
    """Write the frames of a video as y4m; return the finished pipeline, which has counted."""
    with ExitStack() as stack:
        given = _open(source, stack)
        encoding = choose(given.source)
        _name_what_is_missing(given)
        sink = Y4mSink(target, given.source, encoding)
        pipeline = _pipeline(up, given, encoding, sink)
        pipeline.execute(progress)
    return pipeline


def to_file(
    up: Upscaler,
    source: BinaryIO,
    target: Path,
    choose: Choose,
    progress: Progress | None,
    *,
    overwrite: bool,
    drop: bool,
) -> Pipeline:
    """Write a video that is read once into a file; return the finished pipeline.

    A `KeyboardInterrupt` leaves the finished frames in the `.partial` file.
    """
    partial = partial_name(target)
    check_free(partial, overwrite=overwrite)
    with ExitStack() as stack:
        given = _open(source, stack)
        assert given.pipe is not None
        encoding = choose(given.source)
        selection = select(given.pipe.container, given.source.stream, target, drop=drop)
        sink = MuxedSink(target, given.pipe, encoding, selection, overwrite=overwrite)
        pipeline = _pipeline(up, given, encoding, sink)
        try:
            pipeline.execute(progress)
        except KeyboardInterrupt:
            if sink.added:
                sink.finish_as(partial, overwrite=overwrite)
            else:
                sink.abandon()
            raise
    return pipeline


def _open(source: Path | BinaryIO, stack: ExitStack) -> _Given:
    if isinstance(source, os.PathLike):
        return _Given(probe(Path(source)), None)
    pipe = PipeInput(source)
    stack.callback(pipe.close)
    return _Given(pipe.source, pipe)


def _pipeline(
    up: Upscaler, given: _Given, encoding: Encoding, sink: Y4mSink | MuxedSink
) -> Pipeline:
    stopped = given.pipe.stopped if given.pipe is not None else None
    return Pipeline(up, given.source, encoding, sink, given.frames, stopped=stopped)


def _name_what_is_missing(given: _Given) -> None:
    """Warn once that y4m holds frames only."""
    if given.pipe is not None:
        given.pipe.keep_others = False
        given.pipe.others.clear()
        missing = {s.type for s in given.pipe.container.streams if s.type in COPIED}
    else:
        with open_input(given.source.path) as container:
            missing = {stream.type for stream in container.streams if stream.type in COPIED}
    facts = sorted(missing) + (["rotation"] if given.source.rotation else [])
    if facts:
        log.warning(
            "y4m holds frames only: %s left out; name a file to keep everything", ", ".join(facts)
        )
