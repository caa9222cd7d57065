"""Store upscaled frames on disk in parts of fixed length, so that a stopped run can resume.

Each part is a complete video file that gets its final name when it is finished. All parts of a run
have the same number of frames, even after interruptions, so a run that was stopped and resumed
gives the same frames as an undisturbed one.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from srsdk.errors import OutputError, UsageError
from srsdk.video.encoding import Encoding, FrameConverter, add_encoder
from srsdk.video.ffmpeg import FILES_ONLY, import_av, translated
from srsdk.video.source import Source

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

PART_FRAMES = 300
"""Frames per part. With more, a power loss costs more; with fewer, the encoder looks ahead less."""
_FORMAT = "nut"
"""Holds any codec in the source's time base; Matroska would round times to milliseconds."""


_SHIFT_S = 100_000
"""Added to time stamps in parts: a muxer shifts negative ones, in each part by another amount."""


class Parts:
    """The folder of parts next to the target.

    Args:
        target: the video file to write.
        key: everything that the parts depend on; a run with another key cannot be resumed.
    """

    def __init__(self, target: Path, key: dict[str, Any]) -> None:
        self.length = PART_FRAMES
        self.folder = target.with_name(f".{target.name}.parts")
        self._state = self.folder / "run.json"
        # through JSON, to compare with what is read back
        self._key = json.loads(json.dumps(key, default=str))

    def begin(self, *, resume: bool, overwrite: bool) -> None:
        """Create the folder, or reuse an existing one to resume.

        Raises:
            UsageError: an interrupted run exists, but neither `resume` nor `overwrite` is set; or
                it has another video, model or setting.
            OutputError: the folder cannot be written.
        """
        found = self._state.exists()
        if found and resume:
            self._check_same()
            return
        if found and not overwrite:
            raise UsageError(
                f"{self.folder} holds parts of an interrupted run; --resume (API: resume=True) "
                "continues it, --force (API: overwrite=True) starts over"
            )
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            self._state.write_text(json.dumps(self._key, indent=2), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written: {error.strerror}") from error

    def finished(self) -> list[Path]:
        """Return the finished parts, in order."""
        found: list[Path] = []
        while (path := self.path(len(found))).exists():
            found.append(path)
        return found

    def path(self, number: int) -> Path:
        """Return the path of a part, which may not exist yet."""
        return self.folder / f"{number:06d}.{_FORMAT}"

    def remove(self) -> None:
        """Delete the folder and all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check_same(self) -> None:
        previous = json.loads(self._state.read_text(encoding="utf-8"))
        for name in {*previous, *self._key}:
            if previous.get(name) != self._key.get(name):
                raise UsageError(
                    f"{self.folder} was made with {name} {previous.get(name)}, this run has "
                    f"{self._key.get(name)}; --force (API: overwrite=True) starts over"
                )


class PartWriter:
    """Encodes frames into one part after another."""

    def __init__(self, parts: Parts, source: Source, encoding: Encoding, first: int) -> None:
        self._parts, self._source, self._encoding = parts, source, encoding
        self._number = first
        self._painter = FrameConverter(source, encoding)
        self._open: tuple[OutputContainer, VideoStream] | None = None
        self._frames = 0

    def add(self, rgb: npt.NDArray[Any], pts: int, duration: int) -> None:
        """Encode one frame.

        Raises:
            OutputError: encoding failed, or the disk is full.
        """
        frame = self._painter.frame(rgb, pts, duration)
        with translated(f"{self._parts.folder} cannot be written", OutputError):
            container, stream = self._open or self._begin()
            self._mux(container, stream.encode(frame))
        self._frames += 1
        if self._frames == self._parts.length:
            self.finish()

    def finish(self, *, whole: bool = True) -> Path | None:
        """Finish the open part and return its path, or None if no part is open.

        Args:
            whole: False: the part is shorter than the others and more frames follow, so `--resume`
                must not treat it as finished.
        """
        if self._open is None:
            return None
        container, stream = self._open
        target = self._parts.path(self._number)
        with translated(f"{self._parts.folder} cannot be written", OutputError):
            self._mux(container, stream.encode(None))
            container.close()
        path = target if whole else target.with_suffix(".short")
        # `rename` fails on Windows if the file exists, and a killed run may have left one
        self._temporary().replace(path)
        self._open, self._frames, self._number = None, 0, self._number + 1
        return path

    def abandon(self) -> None:
        """Discard the open part."""
        if self._open is not None:
            self._open[0].close()
            self._temporary().unlink(missing_ok=True)
            self._open = None

    def _begin(self) -> tuple[OutputContainer, VideoStream]:
        container = import_av().open(str(self._temporary()), "w", format=_FORMAT)
        self._open = container, add_encoder(container, self._source, self._encoding)
        return self._open

    def _mux(self, container: OutputContainer, packets: list[Packet[VideoStream]]) -> None:
        for packet in packets:
            packet.pts = (packet.pts or 0) + _shift(self._source)
            packet.dts = (packet.dts or 0) + _shift(self._source)
            container.mux(packet)

    def _temporary(self) -> Path:
        return self._parts.path(self._number).with_suffix(".tmp")


def read_part(path: Path, source: Source) -> list[Packet[VideoStream]]:
    """Return a part's packets in decoding order, with the source's time stamps."""
    with import_av().open(str(path), container_options=FILES_ONLY) as container:
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
    return round(_SHIFT_S / source.time_base)


def resume_key(source: Source, encoding: Encoding, model: dict[str, Any]) -> dict[str, Any]:
    """Return everything that the parts depend on, to check before resuming."""
    stat = source.path.stat()
    return {
        "source": str(source.path.resolve()),
        "bytes": stat.st_size,
        "changed_ns": stat.st_mtime_ns,
        "model": model,
        "encoding": asdict(encoding),
        "frames in a part": PART_FRAMES,
    }
