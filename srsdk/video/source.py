"""Read a video: its properties, and its frames as RGB arrays."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from srsdk.errors import PictureError
from srsdk.video.ffmpeg import FILES_ONLY, import_av, translated

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

log = logging.getLogger("srsdk")

UNSPECIFIED = 2
"""Value of matrix, primaries and transfer in ISO/IEC 23091-2."""
BT709, BT601 = 1, 6
LIMITED, FULL = 1, 2
"""Color range in FFmpeg's numbering; 0 is unspecified."""


@dataclass(frozen=True)
class Colors:
    """Color space of a video, in the numbering of ISO/IEC 23091-2 (H.273)."""

    matrix: int
    """Never unspecified: players guess it from the frame size, which upscaling changes."""
    range: int
    """1 limited, 2 full; never unspecified."""
    primaries: int
    transfer: int


@dataclass(frozen=True)
class Source:
    """Properties of a video, read before any work."""

    path: Path
    stream: int
    """Index of the stream to upscale."""
    height: int
    width: int
    format: str
    """FFmpeg name of the pixel format, such as `yuv420p10le`."""
    bits: int
    """Bits per sample: 8, 10 or 12."""
    colors: Colors
    aspect: Fraction | None
    """Pixel aspect ratio; None: square or unknown."""
    rotation: int
    """Degrees by which players rotate the picture."""
    time_base: Fraction
    """Seconds per tick of the time stamps."""
    rate: Fraction
    """Average frames per second."""
    frames: int
    """Number of frames, from the file or from duration and rate; 0: unknown."""


@dataclass(frozen=True)
class Frame:
    """One decoded frame."""

    rgb: npt.NDArray[Any]
    """(H, W, 3) RGB: uint8, or full-range uint16 if the video has more than 8 bits."""
    pts: int
    """Time stamp in ticks of the source's time base; strictly increasing."""
    duration: int
    """Duration in ticks; 0: unknown."""


def open_input(path: Path) -> InputContainer:
    """Open a video file.

    Raises:
        PictureError: missing, a folder, or not readable by FFmpeg.
    """
    if path.is_dir():
        raise PictureError(f"{path} is a folder, expected a video file")
    if not path.exists():
        raise PictureError(f"{path}: no such file")
    with translated(f"{path} is not a video that FFmpeg can read", PictureError):
        container: InputContainer = import_av().open(str(path), container_options=FILES_ONLY)
    return container


def probe(path: Path) -> Source:
    """Read the properties of a video and its first frame.

    Raises:
        PictureError: no video stream; interlaced video, or video with transparency.
    """
    with open_input(path) as container:
        stream = _video_stream(container, path)
        with translated(f"{path} is damaged", PictureError):
            first = next(container.decode(stream), None)
        if first is None:
            raise PictureError(f"{path} has no video frame that can be decoded")
        if first.interlaced_frame:
            raise PictureError(
                f"{path} is interlaced; deinterlace it first: "
                "ffmpeg -i IN -vf bwdif -c:a copy OUT.mkv"
            )
        pixel = first.format
        if any(component.is_alpha for component in pixel.components):
            raise PictureError(f"{path} has transparency ({pixel.name}), which is not supported")
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        return Source(
            path=path,
            stream=stream.index,
            height=first.height,
            width=first.width,
            format=pixel.name,
            bits=max(component.bits for component in pixel.components),
            colors=_colors(first),
            aspect=stream.sample_aspect_ratio or None,
            rotation=first.rotation,
            time_base=stream.time_base or 1 / rate,
            rate=rate,
            frames=stream.frames or _count(container, stream, rate),
        )


def frames(source: Source, skip: int = 0) -> Generator[Frame, None, None]:
    """Decode a video, starting at frame `skip`.

    Raises:
        PictureError: damaged, or the frame size changes.
    """
    av = import_av()
    flags = av.video.reformatter.Interpolation
    # without these flags libswscale is off by up to 2 levels
    exact = flags.BICUBIC | flags.ACCURATE_RND | flags.FULL_CHR_H_INT | flags.FULL_CHR_H_INP
    reformatter = av.video.reformatter.VideoReformatter()
    rgb = "rgb24" if source.bits == 8 else "rgb48le"
    last = None
    with open_input(source.path) as container:
        stream = next(each for each in container.streams.video if each.index == source.stream)
        stream.codec_context.thread_type = "AUTO"
        for index, frame in enumerate(_decode(container, stream, source.path)):
            last = _next_pts(frame, source, last)
            if index < skip:
                continue
            if (frame.height, frame.width) != (source.height, source.width):
                raise PictureError(
                    f"{source.path} changes size from {source.height}x{source.width} to "
                    f"{frame.height}x{frame.width} at frame {index}, expected one size"
                )
            frame.colorspace, frame.color_range = source.colors.matrix, source.colors.range
            converted = reformatter.reformat(frame, format=rgb, interpolation=exact, threads=1)
            yield Frame(np.asarray(converted.to_ndarray()), last, frame.duration or 0)


def _decode(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[VideoFrame]:
    """Decode all valid packets; skip damaged ones with a single warning, as players do."""
    av = import_av()
    warned = False
    with translated(f"{path} is damaged", PictureError):
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError as error:
                if not warned:
                    log.warning(
                        "%s is damaged in places; damaged frames are skipped: %s", path, error
                    )
                warned = True


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    av = import_av()
    cover = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & cover:
            return stream
    raise PictureError(f"{path} has no video stream")


def _colors(frame: VideoFrame) -> Colors:
    matrix = int(frame.colorspace)
    if matrix in (UNSPECIFIED, 0) and not frame.format.is_rgb:
        matrix = BT709 if frame.width >= 1280 or frame.height > 576 else BT601
    elif frame.format.is_rgb:
        matrix = BT709
    full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    return Colors(
        matrix,
        FULL if full and not frame.format.is_rgb else LIMITED,
        int(frame.color_primaries),
        int(frame.color_trc),
    )


def _count(container: InputContainer, stream: VideoStream, rate: Fraction) -> int:
    if stream.duration is not None and stream.time_base is not None:
        return round(stream.duration * stream.time_base * rate)
    # the statistics tags of Matroska: hours, minutes and seconds
    parts = stream.metadata.get("DURATION", "").split(":")
    if len(parts) == 3:
        with suppress(ValueError):
            hours, minutes, seconds = map(float, parts)
            return round((hours * 3600 + minutes * 60 + seconds) * float(rate))
    # duration of the whole file, in microseconds
    return round((container.duration or 0) * rate / 1_000_000)


def _next_pts(frame: VideoFrame, source: Source, last: int | None) -> int:
    """Return the frame's time stamp; if it is missing or not increasing, a synthetic one."""
    step = max(1, round(1 / (source.rate * source.time_base)))
    if frame.pts is None:
        return 0 if last is None else last + step
    return frame.pts if last is None or frame.pts > last else last + 1
