"""Read a video once, from an open file that may not be seekable."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from srsdk.errors import PictureError
from srsdk.video.ffmpeg import FORMATS, import_av, limits, translated
from srsdk.video.source import Frame, converted, decode, describe, prepare, video_stream
from srsdk.video.streams.selection import COPIED, is_cover

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

BUFFER_BYTES = 1 << 18
_CHECK_S = 0.2
"""How often a read that waits for data looks whether the run was stopped."""


class PipeInput:
    """A video that is decoded while it is read.

    Args:
        file: open, binary; stays open.

    Raises:
        PictureError: not a video, or not one that can be read from its beginning to its end.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.stopped = threading.Event()
        self.path = name_of(file)
        self._reader = reader = _Reader(file, self.stopped)
        self.others: deque[Packet[Any]] = deque()
        self.keep_others = True
        """Whether packets of other streams are kept, for the target."""
        try:
            self.container = _open(reader, self.path)
            self.video = video_stream(self.container, self.path)
            prepare(self.video, self.path)
            self.video.codec_context.thread_type = "AUTO"
            self._decoded = decode(self._packets(), self.path)
            with _explained(self.container, self.path, seekable=hasattr(reader, "seek")):
                self.source, self._first = describe(
                    self.container, self.video, self._decoded, self.path
                )
        finally:
            # an interrupt cannot pass through FFmpeg: it ends the video and waits here
            if reader.error is not None:
                raise reader.error

    def frames(self, is_done: Callable[[int], bool], planes: str) -> Generator[Frame, None, None]:
        """Decode all frames, once."""
        yield from converted(chain([self._first], self._decoded), self.source, is_done, planes)

    def close(self) -> None:
        """Close the video; the file stays open."""
        with suppress(AttributeError):  # it could not be opened
            self.container.close()

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        for packet in self.container.demux():
            if packet.stream.index == self.video.index:
                yield packet  # type: ignore[misc]  # of this stream
            elif self.keep_others and (packet.stream.type in COPIED or is_cover(packet.stream)):
                self.others.append(packet)
        # FFmpeg took it for the end
        if self._reader.error is not None:
            raise self._reader.error


def name_of(file: BinaryIO) -> Path:
    """Return how messages call an open file."""
    name = getattr(file, "name", None)
    named = isinstance(name, str) and not name.startswith("<")
    return Path(str(name)) if named else Path("the input" if name is None else "standard input")


class _Reader:
    """What FFmpeg reads from; waits for data in steps, so that a stopped run ends.

    `close` is missing on purpose: the file is not ours.
    """

    def __init__(self, file: BinaryIO, stopped: threading.Event) -> None:
        self.error: BaseException | None = None
        self._stopped = stopped
        # what has arrived, instead of a full buffer
        self._read = getattr(file, "read1", file.read)
        self._waits = _descriptor(file) if os.name == "posix" else None
        if file.seekable():
            self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end, or when the run was stopped."""
        try:
            while self._waits is not None and not self._stopped.is_set():
                if select.select([self._waits], [], [], _CHECK_S)[0]:
                    break
            return b"" if self._stopped.is_set() else bytes(self._read(size))
        except BaseException as error:
            self.error = error
            return b""


def _descriptor(file: BinaryIO) -> int | None:
    """Return the file descriptor to wait for; None: a file in memory, or data are buffered."""
    with suppress(OSError, AttributeError):
        return None if file.seekable() else file.fileno()
    return None


def _open(reader: _Reader, path: Path) -> InputContainer:
    av = import_av()
    only = {"format_whitelist": ",".join(FORMATS)}
    what = f"{path} is not a video that FFmpeg can read from a pipe, such as y4m or Matroska"
    with translated(what, PictureError):
        container: InputContainer = av.open(
            reader,
            options=limits(),
            container_options=only,
            metadata_errors="replace",
            buffer_size=BUFFER_BYTES,
        )
    return container


@contextmanager
def _explained(container: InputContainer, path: Path, *, seekable: bool) -> Iterator[None]:
    """Explain an MP4 whose index follows its frames, which no pipe can give in time."""
    try:
        yield
    except PictureError as error:
        if seekable or "mp4" not in container.format.name:
            raise
        raise PictureError(
            f"{path} is an MP4 whose index is at its end; name the file instead of a pipe, or move "
            "the index: ffmpeg -i IN -c copy -movflags +faststart OUT"
        ) from error
