"""Write the files of parts, and read their packets."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from srsdk.errors import OutputError
from srsdk.system.paths import discard
from srsdk.video.encoding import Encoding, FrameConverter, add_encoder
from srsdk.video.ffmpeg import import_av, reopen, translated, url
from srsdk.video.parts import Part, Parts
from srsdk.video.run_files import FORMAT
from srsdk.video.source import Frame, Source
from srsdk.video.timing import SHIFT_S

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream


class PartWriter:
    """Encodes frames into one part after another."""

    def __init__(self, parts: Parts, source: Source, encoding: Encoding) -> None:
        self._parts, self._source, self._encoding = parts, source, encoding
        self._painter = FrameConverter(source, encoding)
        self._open: tuple[OutputContainer, VideoStream] | None = None
        self._number = self._frames = 0

    @property
    def frames(self) -> int:
        """Number of frames in finished parts."""
        return self._parts.frames

    def holds(self, index: int) -> bool:
        """Return whether a finished part holds the frame with this index."""
        return self._parts.holds(index)

    def add(self, pixels: npt.NDArray[Any], frame: Frame) -> None:
        """Encode the enlarged `pixels` of a frame; the part that it completes is finished.

        Raises:
            OutputError: encoding failed, or the disk is full.
        """
        with self._translated():
            painted = self._painter.frame(pixels, frame)
            container, stream = self._open or self._begin(frame.index // self._parts.length)
            self._mux(container, stream.encode(painted))
        self._frames += 1
        if self._frames == self._parts.length:
            self.finish()

    def finish(self) -> None:
        """Finish the open part, if there is one, and give it its record.

        Raises:
            OutputError: the disk is full, or the encoder dropped frames.
        """
        if self._open is not None:
            self._close()
            self._parts.keep(self._temporary(), self._number, self._frames)
            self._open = None

    def finish_short(self) -> Part | None:
        """Finish the open part although more frames follow, under a name that no run resumes.

        Raises:
            OutputError: the disk is full.
        """
        if self._open is None:
            return None
        self._close()
        path = self._parts.path(self._number).with_suffix(".short")
        # `rename` fails on Windows if the file exists, and a killed run may have left one
        with self._translated():
            self._temporary().replace(path)
        self._open = None
        return Part(path, self._number, self._frames)

    def abandon(self) -> None:
        """Discard the open part."""
        if self._open is not None:
            # what is wrong with it was the error that is raised now
            with suppress(Exception):
                self._open[0].close()
            discard(self._temporary())
            self._open = None

    def _begin(self, number: int) -> tuple[OutputContainer, VideoStream]:
        self._number, self._frames = number, 0
        container = import_av().open(url(self._temporary()), "w", format=FORMAT)
        self._open = container, add_encoder(container, self._source, self._encoding)
        return self._open

    def _close(self) -> None:
        assert self._open is not None
        container, stream = self._open
        with self._translated():
            self._mux(container, stream.encode(None))
            container.close()
            found = len(read_part(self._temporary(), self._source))
        if found != self._frames:
            raise OutputError(
                f"{self._encoding.codec} wrote {found} frames instead of {self._frames}; choose "
                "another encoder (codec=)"
            )

    def _mux(self, container: OutputContainer, packets: list[Packet[VideoStream]]) -> None:
        for packet in packets:
            packet.pts = (packet.pts or 0) + _shift(self._source)
            packet.dts = (packet.dts or 0) + _shift(self._source)
            container.mux(packet)

    def _temporary(self) -> Path:
        return self._parts.path(self._number).with_suffix(".tmp")

    def _translated(self) -> Any:
        return translated(f"{self._parts.folder} cannot be written", OutputError)


def read_part(path: Path, source: Source) -> list[Packet[VideoStream]]:
    """Return a part's packets in decoding order, with the source's time stamps."""
    with reopen(path, FORMAT) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets:
        # the format has its own time base; the source's is a multiple of it
        ratio = packet.time_base / source.time_base
        packet.pts = round((packet.pts or 0) * ratio) - _shift(source)
        packet.dts = None
        packet.duration = round((packet.duration or 0) * ratio)
        packet.time_base = source.time_base
    return packets


def _shift(source: Source) -> int:
    return round(SHIFT_S / source.time_base)
