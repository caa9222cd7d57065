"""Encode a video that is read once straight into its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from srsdk.errors import OutputError
from srsdk.system import durable
from srsdk.system.paths import discard
from srsdk.video.encoding import Encoding, FrameConverter
from srsdk.video.ffmpeg import translated
from srsdk.video.muxing import check_frames, close, open_output, temporary_name
from srsdk.video.pipes.input import PipeInput
from srsdk.video.source import Frame
from srsdk.video.streams.packets import Muxer, time_of
from srsdk.video.streams.selection import Selection
from srsdk.video.streams.subtitles import Converter
from srsdk.video.targets import check_free


class MuxedSink:
    """Writes frames, and the source's other packets as they arrive, to a temporary name.

    Args:
        target: the file to write.
        given: the video that is read.
        encoding: settings of the encoder.
        selection: what becomes of the other streams.
        overwrite: replace a target that has appeared meanwhile.

    Raises:
        OutputError: the format cannot hold this video.
    """

    frames = 0

    def __init__(
        self,
        target: Path,
        given: PipeInput,
        encoding: Encoding,
        selection: Selection,
        *,
        overwrite: bool,
    ) -> None:
        self._target, self._given, self._overwrite = target, given, overwrite
        self._temporary = temporary_name(target)
        self._painter = FrameConverter(given.source, encoding)
        self._added = 0
        source, container = given.source, given.container
        try:
            self._output, self._video, self._others = open_output(
                self._temporary, target, container, source, encoding, selection
            )
        except OutputError:
            discard(self._temporary)
            raise
        self._mux = Muxer(self._output, source)
        self._texts = {
            index: Converter(container.streams[index], self._others[index], given.path)
            for index, _ in selection.converted
        }

    def holds(self, index: int) -> bool:
        """Return False: no frame was written by an earlier run."""
        return False

    def add(self, pixels: npt.NDArray[Any], frame: Frame) -> None:
        """Encode a frame, and write the packets that came before it in the source.

        Raises:
            OutputError: encoding failed, or the disk is full.
        """
        with translated(f"{self._target} cannot be written", OutputError):
            self._write_others()
            self._write_video(self._video.encode(self._painter.frame(pixels, frame)))
        self._added += 1

    def finish(self) -> None:
        """Complete the file, check it and give it its name.

        Raises:
            OutputError: the disk is full, frames are missing, or the target exists by now.
        """
        self.finish_as(self._target, overwrite=self._overwrite)

    def finish_as(self, path: Path, *, overwrite: bool) -> None:
        """Complete the file under another name: after an interrupt, it holds fewer frames."""
        try:
            with translated(f"{path} cannot be written", OutputError):
                self._write_others()
                self._write_video(self._video.encode(None))
                self._mux.finish()
            check_frames(self._temporary, path, self._added)
            check_free(path, overwrite=overwrite)
            durable.rename(self._temporary, path)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error}") from error
        finally:
            discard(self._temporary)

    @property
    def added(self) -> int:
        """Number of frames encoded so far."""
        return self._added

    def abandon(self) -> None:
        """Remove the incomplete file."""
        close(self._output)
        discard(self._temporary)

    def _write_video(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.stream = self._video
            self._mux(packet)

    def _write_others(self) -> None:
        others = self._given.others
        while others:
            packet = others.popleft()
            index = packet.stream.index
            if index not in self._others or time_of(packet) is None:
                continue
            if text := self._texts.get(index):
                for cue in text.cues(packet):
                    for made in text.encoded(cue):
                        self._mux(made)
                continue
            packet.stream = self._others[index]
            self._mux(packet)
