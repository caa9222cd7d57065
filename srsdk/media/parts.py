"""Upscaled frames on the disk in parts of fixed length, so that a stopped run goes on.

Each part is a whole little file that appears under its name when it is finished. All parts of a
run have the same number of frames whatever happened between, so a run that was stopped and
continued gives the frames that an undisturbed one gives.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from srsdk.errors import OutputError, UsageError
from srsdk.media import FILES_ONLY, import_av, translated
from srsdk.media.encoding import Encoding, Painter, add_encoder
from srsdk.media.source import Source

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

PART_FRAMES = 300
"""More would be lost when the machine is switched off; fewer cost the encoder its look-ahead."""
_FORMAT = "nut"
"""Holds any codec with the source's own time base; Matroska would round to milliseconds."""


_SHIFT_S = 100_000
"""Added to time stamps in parts: a muxer would shift those below 0, each part's by another time."""


class Parts:
    """The folder of parts beside the target.

    Args:
        target: the video file that is to be.
        key: what the parts depend on; parts of another key are not continued.
    """

    def __init__(self, target: Path, key: dict[str, Any]) -> None:
        self.length = PART_FRAMES
        self.folder = target.with_name(f".{target.name}.parts")
        self._state = self.folder / "run.json"
        # through JSON, as it will be read back
        self._key = json.loads(json.dumps(key, default=str))

    def begin(self, *, resume: bool, overwrite: bool) -> None:
        """Make the folder, or accept the one that is there.

        Raises:
            UsageError: parts of an interrupted run are there, but neither `resume` nor
                `overwrite`; or they are of another video, model or setting.
            OutputError: the folder cannot be written.
        """
        found = self._state.exists()
        if found and resume:
            self._check_same()
            return
        if found and not overwrite:
            raise UsageError(
                f"{self.folder} holds parts of an interrupted run; --resume (API: resume=True) "
                "goes on, --force (API: overwrite=True) begins anew"
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
        """Return where a part is, or will be."""
        return self.folder / f"{number:06d}.{_FORMAT}"

    def remove(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check_same(self) -> None:
        was = json.loads(self._state.read_text(encoding="utf-8"))
        for name in {*was, *self._key}:
            if was.get(name) != self._key.get(name):
                raise UsageError(
                    f"{self.folder} was made with {name} {was.get(name)}, this run has "
                    f"{self._key.get(name)}; --force (API: overwrite=True) begins anew"
                )


class PartWriter:
    """Encodes frames into one part after the other."""

    def __init__(self, parts: Parts, source: Source, encoding: Encoding, first: int) -> None:
        self._parts, self._source, self._encoding = parts, source, encoding
        self._number = first
        self._painter = Painter(source, encoding)
        self._open: tuple[OutputContainer, VideoStream] | None = None
        self._frames = 0

    def add(self, rgb: npt.NDArray[Any], pts: int, duration: int) -> None:
        """Encode one frame.

        Raises:
            OutputError: the encoder or the disk refuses.
        """
        frame = self._painter.frame(rgb, pts, duration)
        with translated(f"{self._parts.folder} cannot be written", OutputError):
            container, stream = self._open or self._begin()
            self._mux(container, stream.encode(frame))
        self._frames += 1
        if self._frames == self._parts.length:
            self.finish()

    def finish(self, *, whole: bool = True) -> Path | None:
        """End the part that is being written; None where there is none.

        Args:
            whole: False: it is shorter than the others and more frames follow, so `--resume` must
                not take it for a finished one.
        """
        if self._open is None:
            return None
        container, stream = self._open
        target = self._parts.path(self._number)
        with translated(f"{self._parts.folder} cannot be written", OutputError):
            self._mux(container, stream.encode(None))
            container.close()
        path = target if whole else target.with_suffix(".short")
        # and not `rename`, which on Windows replaces nothing: a killed run may have left one
        self._temporary().replace(path)
        self._open, self._frames, self._number = None, 0, self._number + 1
        return path

    def abandon(self) -> None:
        """Drop the part that is being written."""
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
    """Return a part's packets in the order of decoding, shown at the source's time stamps."""
    with import_av().open(str(path), container_options=FILES_ONLY) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets:
        # the format takes a time base of its own, of which the source's is a multiple
        ratio = packet.time_base / source.time_base
        packet.pts = round((packet.pts or 0) * ratio) - _shift(source)
        packet.dts = None
        packet.duration = round((packet.duration or 0) * ratio)
        packet.time_base = source.time_base
    return packets


def _shift(source: Source) -> int:
    return round(_SHIFT_S / source.time_base)


def key_of(source: Source, encoding: Encoding, model: dict[str, Any]) -> dict[str, Any]:
    """Return what parts depend on."""
    stat = source.path.stat()
    return {
        "source": str(source.path.resolve()),
        "bytes": stat.st_size,
        "changed_ns": stat.st_mtime_ns,
        "model": model,
        "encoding": asdict(encoding),
        "frames in a part": PART_FRAMES,
    }
