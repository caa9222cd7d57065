"""Write frames as YUV4MPEG2 (y4m), which ffmpeg, x264 and players read from a pipe.

The format is a line of text, then each frame as a line of text and its planes, uncompressed. It
has one frame rate and no time stamps, so frames are repeated or dropped where a video has another
rate for a while, as `ffmpeg -fps_mode cfr` does.
"""

from __future__ import annotations

import logging
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from srsdk.errors import OutputError, PictureError
from srsdk.video.encoding import Encoding, FrameConverter
from srsdk.video.source import FULL, Frame, Source

log = logging.getLogger("srsdk")

CHROMA = {
    "yuv420p": "420jpeg",
    "yuv422p": "422",
    "yuv444p": "444",
    **{
        f"yuv{chroma}p{bits}le": f"{chroma}p{bits}"
        for chroma in (420, 422, 444)
        for bits in (10, 12)
    },
}
"""The format's names of FFmpeg's pixel formats."""
LONGEST_GAP_S = 3600
"""Longest time between two frames; a longer one is a damaged time stamp."""


class Y4mSink:
    """Writes frames into an open file, which stays open.

    Args:
        file: open for writing, binary.
        source: properties of the video.
        encoding: format and size of the frames.
    """

    frames = 0

    def __init__(self, file: BinaryIO, source: Source, encoding: Encoding) -> None:
        self._file, self._source, self._encoding = file, source, encoding
        self._painter = FrameConverter(source, encoding)
        self._sample_bytes = 2 if encoding.format.endswith("le") else 1
        self._last: list[npt.NDArray[np.uint8]] = []
        self._first_pts: int | None = None
        self.written = self.repeated = self.dropped = 0

    def holds(self, index: int) -> bool:
        """Return False: no frame was written by an earlier run."""
        return False

    def add(self, pixels: npt.NDArray[Any], frame: Frame) -> None:
        """Write the frame before, as often as the time until this one asks for.

        Raises:
            PictureError: more than an hour passes between two frames.
            BrokenPipeError: the reader has closed the pipe.
            OutputError: the file cannot be written.
        """
        if self._first_pts is None:
            self._first_pts = frame.pts
            self._write(_header(self._source, self._encoding))
        seconds = (frame.pts - self._first_pts) * self._source.time_base
        self._repeat_until(round(seconds * self._source.rate))
        painted = self._painter.frame(pixels, frame)
        self._last = [_rows(plane, self._sample_bytes) for plane in painted.planes]

    def finish(self) -> None:
        """Write the last frame."""
        self._repeat_until(self.written + 1)
        if self.repeated or self.dropped:
            rate = float(self._source.rate)
            log.warning(
                "y4m has one frame rate, %.5g here: %d frames repeated, %d dropped",
                rate, self.repeated, self.dropped,
            )  # fmt: skip
        try:
            self._file.flush()
        except OSError as error:
            raise _translated(error) from error

    def abandon(self) -> None:
        """Do nothing: what was written is the reader's."""

    def _repeat_until(self, count: int) -> None:
        if not self._last:
            return
        missing = count - self.written
        if missing > LONGEST_GAP_S * self._source.rate:
            raise PictureError(
                f"{self._source.path} has no frame for {float(missing / self._source.rate):.3g} s; "
                "write a file instead of a pipe, which keeps time stamps"
            )
        self.repeated += max(missing - 1, 0)
        self.dropped += missing <= 0
        for _ in range(missing):
            self._write(b"FRAME\n", *self._last)
            self.written += 1

    def _write(self, *blocks: Any) -> None:
        try:
            for block in blocks:
                self._file.write(block)
        except OSError as error:
            raise _translated(error) from error


def _translated(error: OSError) -> OSError | OutputError:
    """Return a closed pipe as it is, which commands end silently on, and others translated."""
    if isinstance(error, BrokenPipeError):
        return error
    return OutputError(f"the output cannot be written: {error.strerror}")


def _header(source: Source, encoding: Encoding) -> bytes:
    rate, aspect = source.rate, source.aspect or 1
    full = "FULL" if source.colors.range == FULL else "LIMITED"
    return (
        f"YUV4MPEG2 W{encoding.width} H{encoding.height} F{rate.numerator}:{rate.denominator} Ip "
        f"A{aspect.numerator}:{aspect.denominator} C{CHROMA[encoding.format]} XCOLORRANGE={full}\n"
    ).encode("ascii")


def _rows(plane: Any, sample_bytes: int) -> npt.NDArray[np.uint8]:
    """Return a plane's bytes without the padding of its rows, as a copy."""
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return np.array(rows[:, : plane.width * sample_bytes], order="C")
