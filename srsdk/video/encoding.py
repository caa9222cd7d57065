"""Encode upscaled frames with the color, timing and bit depth of the source."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from srsdk.errors import UsageError
from srsdk.video.conversion import plane_of
from srsdk.video.ffmpeg import import_av
from srsdk.video.source import Frame, Source

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

CRF = {"libx264": 18, "libx265": 20, "libvpx-vp9": 24, "libsvtav1": 24}
"""Default constant quality (CRF) per encoder: visually lossless."""
PRESET = {"libx264": "fast", "libx265": "fast", "libsvtav1": "8"}
REALTIME_PRESET = {"libx264": "faster", "libx265": "superfast", "libsvtav1": "10"}
"""For networks for luma: with `realtime_x2` at 640x360, x264's `fast` takes 24 ms of processor time
a frame, more than the network's 16; `faster` takes 19."""
EXTRA = {
    "libx265": {"x265-params": "log-level=error"},
    "libvpx-vp9": {"b": "0", "row-mt": "1", "cpu-used": "4"},
}
_SUBSAMPLING = {(1, 1): "444", (2, 1): "422", (2, 2): "420", (4, 1): "422", (1, 2): "444"}


@dataclass(frozen=True)
class Encoding:
    """Settings of an encoder; equal settings give equal headers."""

    codec: str
    format: str
    options: tuple[tuple[str, str], ...]
    height: int
    width: int

    @classmethod
    def choose(
        cls,
        source: Source,
        target: Path,
        scale: int,
        *,
        codec: str | None = None,
        crf: int | None = None,
        preset: str | None = None,
        realtime: bool = False,
    ) -> Encoding:
        """Choose codec and pixel format: as requested, or else what suits `target` best.

        `realtime` selects the faster default preset.

        Raises:
            UsageError: no such encoder, or one that cannot keep the bit depth.
        """
        name = codec or _default_codec(source, target)
        pixel = _pixel_format(source, name)
        crf = crf if crf is not None else CRF.get(name)
        defaults = REALTIME_PRESET if realtime else PRESET
        preset = preset if preset is not None else defaults.get(name)
        options = {"crf": crf, "preset": preset, **EXTRA.get(name, {})}
        chosen = tuple((key, str(value)) for key, value in options.items() if value is not None)
        return cls(name, pixel, chosen, source.height * scale, source.width * scale)


def add_encoder(container: OutputContainer, source: Source, encoding: Encoding) -> VideoStream:
    """Add a video stream whose encoder is configured but not open yet."""
    av = import_av()
    stream: VideoStream = container.add_stream(  # type: ignore[assignment]  # of a video encoder
        encoding.codec, rate=source.rate, options=dict(encoding.options)
    )
    context = stream.codec_context
    context.width, context.height = encoding.width, encoding.height
    context.pix_fmt = encoding.format
    context.time_base = stream.time_base = source.time_base
    context.sample_aspect_ratio = source.aspect or Fraction(1)
    context.colorspace, context.color_range = source.colors.matrix, source.colors.range
    context.color_primaries = source.colors.primaries
    context.color_trc = source.colors.transfer
    context.thread_type = av.codec.context.ThreadType.AUTO
    context.thread_count = 0  # as many as there are cores; PyAV defaults to one
    flags = av.codec.context.Flags
    context.flags |= flags.global_header | flags.frame_duration
    return stream


class FrameConverter:
    """Converts enlarged pixels to frames in the encoder's pixel format."""

    def __init__(self, source: Source, encoding: Encoding) -> None:
        av = import_av()
        flags = av.video.reformatter.Interpolation
        self._exact = flags.BICUBIC | flags.ACCURATE_RND | flags.FULL_CHR_H_INT
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._source, self._encoding = source, encoding
        self._chroma = [_Plane(source), _Plane(source)]

    def frame(self, pixels: npt.NDArray[Any], like: Frame) -> VideoFrame:
        """Make the frame to encode.

        Args:
            pixels: (H, W, 3) RGB, uint8 or uint16; or (H, W) luma, uint8, if `like` has chroma.
                Do not modify it afterwards.
            like: the frame that was enlarged: its time and its chroma.
        """
        frame = self._from_planes(pixels, like) if like.chroma else self._from_rgb(pixels)
        colors = self._source.colors
        frame.colorspace, frame.color_range = colors.matrix, colors.range
        frame.pts, frame.time_base = like.pts, self._source.time_base
        frame.duration = like.duration
        return frame

    def _from_rgb(self, rgb: npt.NDArray[Any]) -> VideoFrame:
        av = import_av()
        layout = "rgb24" if rgb.dtype == np.uint8 else "rgb48le"
        painted = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(rgb), layout)
        colors = self._source.colors
        frame: VideoFrame = self._reformatter.reformat(
            painted,
            format=self._encoding.format,
            src_color_range=2,
            dst_colorspace=colors.matrix,
            dst_color_range=colors.range,
            dst_color_primaries=colors.primaries,
            dst_color_trc=colors.transfer,
            interpolation=self._exact,
            threads=1,
        )
        return frame

    def _from_planes(self, luma: npt.NDArray[Any], like: Frame) -> VideoFrame:
        height, width = luma.shape
        frame: VideoFrame = import_av().VideoFrame(width, height, self._encoding.format)
        whole, *parts = frame.planes
        plane_of(whole)[...] = luma
        for plane, large, small in zip(parts, self._chroma, like.chroma, strict=True):
            plane_of(plane)[...] = large.enlarged(small, plane.height, plane.width)
        return frame


class _Plane:
    """Enlarges one chroma plane, frame by frame, with a bicubic kernel."""

    def __init__(self, source: Source) -> None:
        av = import_av()
        flags = av.video.reformatter.Interpolation
        self._exact = flags.BICUBIC | flags.ACCURATE_RND
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._last: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None

    def enlarged(self, small: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
        """Return (height, width) of an (h, w) plane; an unchanged plane is enlarged once."""
        if self._last is not None and np.array_equal(self._last[0], small):
            return self._last[1]
        gray = import_av().VideoFrame.from_numpy_buffer(np.ascontiguousarray(small), "gray8")
        large = self._reformatter.reformat(
            gray, width, height, interpolation=self._exact, threads=1
        )
        self._last = small, plane_of(large.planes[0])
        return self._last[1]


def _default_codec(source: Source, target: Path) -> str:
    if target.suffix.lower() == ".webm":
        return "libvpx-vp9"
    # players decode 10-bit HEVC, but rarely 10-bit H.264
    return "libx264" if source.bits == 8 else "libx265"


def _pixel_format(source: Source, codec: str) -> str:
    av = import_av()
    try:
        encoder = av.codec.Codec(codec, "w")
    except ValueError as error:
        raise UsageError(
            f"FFmpeg has no video encoder {codec!r}, expected one such as libx264, libx265, "
            "libvpx-vp9 or libsvtav1"
        ) from error
    if encoder.type != "video":
        raise UsageError(f"{codec} encodes {encoder.type}, expected a video encoder")
    names = [form.name for form in encoder.video_formats or []]
    wanted = _planar(source)
    if not names or wanted in names:
        return wanted
    depth = wanted.partition("p")[2]
    for chroma in ("444", "422", "420"):
        if (name := f"yuv{chroma}p{depth}") in names:
            return name
    raise UsageError(
        f"{codec} cannot encode {source.bits} bits as {wanted}; it supports {', '.join(names)}"
    )


def _planar(source: Source) -> str:
    """Return the planar YUV format with the source's chroma and bit depth."""
    av = import_av()
    form = av.VideoFormat(source.format, 64, 64)
    depth = "" if source.bits == 8 else "10le" if source.bits <= 10 else "12le"
    if form.is_rgb:
        return f"yuv444p{depth}"
    if len(form.components) == 1:
        return f"yuv420p{depth}"
    sides = 64 // form.chroma_width(64), 64 // form.chroma_height(64)
    return f"yuv{_SUBSAMPLING.get(sides, '420')}p{depth}"
