"""Read a video: its properties, and its frames as RGB arrays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from srsdk.errors import PictureError
from srsdk.video.conversion import Planes, Rgb
from srsdk.video.ffmpeg import import_av, limits, max_pixels, open_input, translated
from srsdk.video.timing import Clock, count_of, rate_of, time_base_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
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

    pixels: npt.NDArray[Any]
    """(H, W, 3) RGB: uint8, or full-range uint16 if the video has more than 8 bits; with `chroma`
    (H, W) luma, uint8, in the video's own range."""
    pts: int
    """Time stamp in ticks of the source's time base; strictly increasing."""
    duration: int
    """Duration in ticks; 0: unknown."""
    index: int
    """Number of the frame in the video, from 0."""
    chroma: tuple[npt.NDArray[Any], ...] = ()
    """Both chroma planes, uint8, as large as the video's subsampling makes them; empty: RGB."""


def probe(path: Path) -> Source:
    """Read the properties of a video and its first frame.

    Raises:
        PictureError: not a regular file, no video stream, frames that are too large, interlaced
            video, or video with transparency.
    """
    with open_input(path) as container:
        stream = video_stream(container, path)
        prepare(stream, path)
        frames = (frame for packet in container.demux(stream) for frame in _frames_in(packet, path))
        return describe(container, stream, frames, path)[0]


def describe(
    container: InputContainer, stream: VideoStream, frames: Iterator[VideoFrame], path: Path
) -> tuple[Source, VideoFrame]:
    """Return the properties of a video and its first frame, which is taken from `frames`.

    Raises:
        PictureError: as `probe`.
    """
    # FFmpeg forgets a size that it refuses while it opens the file
    refused = _or_too_large() if not stream.codec_context.width else ""
    with translated(f"{path} is damaged{refused}", PictureError):
        first = next(frames, None)
    if first is None:
        raise PictureError(f"{path} has no video frame that can be decoded")
    _check_pixels(first.height, first.width, path)
    _check_supported(first, path)
    with translated(f"{path} is damaged", PictureError):
        return _source(container, stream, first, path), first


def _check_supported(first: VideoFrame, path: Path) -> None:
    if first.interlaced_frame:
        raise PictureError(
            f"{path} is interlaced; deinterlace it first: ffmpeg -i IN -vf bwdif -c:a copy OUT.mkv"
        )
    pixel = first.format
    if any(component.is_alpha for component in pixel.components):
        raise PictureError(f"{path} has transparency ({pixel.name}), which is not supported")


def _source(
    container: InputContainer, stream: VideoStream, first: VideoFrame, path: Path
) -> Source:
    rate = rate_of(stream)
    return Source(
        path=path,
        stream=stream.index,
        height=first.height,
        width=first.width,
        format=first.format.name,
        bits=max(component.bits for component in first.format.components),
        colors=_colors(first),
        aspect=stream.sample_aspect_ratio or None,
        rotation=first.rotation,
        time_base=time_base_of(stream, path),
        rate=rate,
        frames=count_of(container, stream, rate),
    )


def _none(_: int) -> bool:
    return False


def frames(
    source: Source, is_done: Callable[[int], bool] = _none, *, planes: str = ""
) -> Generator[Frame, None, None]:
    """Decode a video, and convert all frames but those whose index `is_done`.

    Args:
        source: the video.
        is_done: whether the frame with an index is not needed.
        planes: a planar YUV format of 8 bits: frames are luma and chroma in it; empty: RGB.

    Raises:
        PictureError: damaged, a time stamp out of range, or the frame size changes.
    """
    with open_input(source.path) as container:
        stream = next(each for each in container.streams.video if each.index == source.stream)
        prepare(stream, source.path)
        stream.codec_context.thread_type = "AUTO"
        decoded = decode(container.demux(stream), source.path)
        yield from converted(decoded, source, is_done, planes)


def converted(
    decoded: Iterable[VideoFrame], source: Source, is_done: Callable[[int], bool], planes: str
) -> Iterator[Frame]:
    """Give decoded frames their times, and convert all but those whose index `is_done`."""
    colors = source.colors
    convert = Planes(planes, colors.range) if planes else Rgb(source.bits)
    clock = Clock(source.path, source.rate, source.time_base)
    for index, frame in enumerate(decoded):
        pts, duration = clock.stamp(frame, index)
        if is_done(index):
            continue
        _check_size(frame, source, index)
        with translated(f"{source.path} is damaged", PictureError):
            frame.colorspace, frame.color_range = colors.matrix, colors.range
            pixels, chroma = convert(frame)
        yield Frame(pixels, pts, duration, index, chroma)


def prepare(stream: VideoStream, path: Path) -> None:
    """Limit the size of frames, before the decoder allocates one.

    Raises:
        PictureError: the file itself claims a larger size.
    """
    context = stream.codec_context
    if context is None:
        raise PictureError(f"{path} has a codec that FFmpeg has no decoder for")
    _check_pixels(context.height, context.width, path)
    context.options = limits()


def _check_pixels(height: int, width: int, path: Path) -> None:
    allowed = max_pixels()
    if allowed is not None and height * width > allowed:
        raise PictureError(
            f"{path} has frames of {width}x{height}, at most {allowed:,} pixels are allowed; if "
            "you trust it, raise PIL.Image.MAX_IMAGE_PIXELS"
        )


def _or_too_large() -> str:
    allowed = max_pixels()
    return "" if allowed is None else f", or has a frame of more than {allowed:,} pixels"


def _check_size(frame: VideoFrame, source: Source, index: int) -> None:
    if (frame.height, frame.width) != (source.height, source.width):
        raise PictureError(
            f"{source.path} changes size from {source.height}x{source.width} to "
            f"{frame.height}x{frame.width} at frame {index}, expected one size"
        )


def _frames_in(packet: Packet[VideoStream], path: Path) -> list[VideoFrame]:
    """Decode a packet.

    Raises:
        PictureError: refused by the decoder, which says no more than that.
        InvalidDataError: damaged.
    """
    try:
        return packet.decode()
    except import_av().error.ArgumentError as error:
        raise PictureError(f"{path} is damaged{_or_too_large()}: {error.strerror}") from error


def decode(packets: Iterable[Packet[VideoStream]], path: Path) -> Iterator[VideoFrame]:
    """Decode all valid packets; skip damaged ones with a single warning, as players do."""
    av = import_av()
    warned = False
    with translated(f"{path} is damaged", PictureError):
        for packet in packets:
            try:
                yield from _frames_in(packet, path)
            except av.error.InvalidDataError as error:
                if not warned:
                    log.warning(
                        "%s is damaged in places; damaged frames are skipped: %s", path, error
                    )
                warned = True


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the first video stream that is not a cover picture.

    Raises:
        PictureError: there is none.
    """
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
