"""Time stamps, frame rates and frame counts, none of which can be trusted."""

from __future__ import annotations

import math
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from srsdk.errors import PictureError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SHIFT_S = 100_000
"""Added to time stamps in parts: a muxer shifts negative ones, in each part by another amount."""
LATEST_S = 4_000_000_000
"""Latest time stamp: some cameras count from 1970."""
_MOST_TICKS = 1 << 62
_LONGEST_TICK_S = 1000
_FALLBACK_RATE = Fraction(25)


class Clock:
    """Gives each frame a valid time stamp, greater than the one before.

    Args:
        path: the video, for messages.
        rate: frames per second.
        time_base: seconds per tick.
    """

    def __init__(self, path: Path, rate: Fraction, time_base: Fraction) -> None:
        self._path, self._time_base = path, time_base
        self._step = max(1, round(1 / (rate * time_base)))
        self._last: int | None = None

    def stamp(self, frame: VideoFrame, index: int) -> tuple[int, int]:
        """Return a frame's time stamp and duration in ticks.

        A time stamp that is missing or not greater than the one before is replaced.

        Raises:
            PictureError: out of range.
        """
        last, pts, duration = self._last, frame.pts, frame.duration or 0
        if pts is None:
            pts = 0 if last is None else last + self._step
        elif last is not None and pts <= last:
            pts = last + 1
        for value in (pts, duration):
            self._check(value, index)
        self._last = pts
        return pts, duration

    def _check(self, ticks: int, index: int) -> None:
        seconds = ticks * self._time_base
        shifted = abs(ticks) + SHIFT_S / self._time_base
        if not -SHIFT_S < seconds <= LATEST_S or shifted >= _MOST_TICKS:
            raise PictureError(
                f"{self._path} has a time stamp or duration of {float(seconds):.3g} s at frame "
                f"{index}, expected -{SHIFT_S} to {LATEST_S}; set new ones: "
                "ffmpeg -i IN -vf 'setpts=N/(25*TB)' -an OUT.mkv"
            )


def time_base_of(stream: VideoStream, path: Path) -> Fraction:
    """Return the seconds per tick of a stream.

    Raises:
        PictureError: missing or out of range.
    """
    found = stream.time_base
    if found is None or not 0 < found <= _LONGEST_TICK_S:
        raise PictureError(f"{path} has a time base of {found} s, expected more than 0")
    return found


def rate_of(stream: VideoStream) -> Fraction:
    """Return the average frames per second; 25 if the file has none that is possible."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate is not None and rate > 0:
            return rate
    return _FALLBACK_RATE


def count_of(container: InputContainer, stream: VideoStream, rate: Fraction) -> int:
    """Return the number of frames that the file claims; 0: unknown."""
    return max(0, stream.frames or round(_duration_s(container, stream) * rate))


def _duration_s(container: InputContainer, stream: VideoStream) -> Fraction:
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * stream.time_base
    # the statistics tags of Matroska: hours, minutes and seconds
    parts = stream.metadata.get("DURATION", "").split(":")
    if len(parts) == 3:
        with suppress(ValueError):
            hours, minutes, seconds = map(float, parts)
            found = hours * 3600 + minutes * 60 + seconds
            if math.isfinite(found):
                return Fraction(found)
    # duration of the whole file, in microseconds
    return Fraction(container.duration or 0, 1_000_000)
