"""Make small videos with every kind of stream, and read them back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags
from av.video.reformatter import Interpolation

from srsdk.video.streams import subtitles

HEIGHT, WIDTH = 48, 80
CONVERTED = (".mp4", ".mov")
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass
class Clip:
    """Settings of a clip."""

    frames: int = 24
    codec: str = "libx264"
    pixel: str = "yuv420p"
    pts: list[int] | None = None
    """Time stamps in milliseconds; None: 25 frames per second."""
    matrix: int = 1
    range: int = 1
    held: tuple[int, int] = (0, 0)
    """Frames from the first index up to, not including, the second are identical."""
    aspect: Fraction = Fraction(1)
    rotation: int = 0
    sound: bool = True
    subtitles: bool = True
    chapters: bool = True
    metadata: dict[str, str] = field(default_factory=lambda: {"title": "Odd clip"})


def shown(index: int, clip: Clip, deep: bool) -> npt.NDArray[Any]:
    """Return frame `index` as (H, W, 3) RGB: moving ramps, and a bright square."""
    time = clip.held[0] if clip.held[0] <= index < clip.held[1] else index
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    ramps = np.stack([x * 2 + time, y * 3 + time, x + y + 2 * time], axis=-1) % 200 / 255
    ramps[10:20, (time * 2) % 60 : (time * 2) % 60 + 10] = (0.9, 0.5, 0.2)
    whole = 65535 if deep else 255
    return np.asarray((ramps * whole).astype(np.uint16 if deep else np.uint8))


def make(path: Path, clip: Clip) -> Path:
    """Write the clip with a subtitle in the middle, a 440 Hz tone and two chapters."""
    pts = clip.pts or [index * 40 for index in range(clip.frames)]
    deep = "10" in clip.pixel
    with av.open(str(path), "w") as container:
        container.metadata.update(clip.metadata)
        video: Any = container.add_stream(clip.codec, rate=25, options={"crf": "8"})
        context = video.codec_context
        context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, clip.pixel
        context.time_base = Fraction(1, 1000)
        context.colorspace, context.color_range = clip.matrix, clip.range
        context.sample_aspect_ratio = clip.aspect
        context.flags |= Flags.frame_duration
        if clip.codec == "libx265":
            context.options = {"x265-params": "log-level=error", "crf": "8"}
        if clip.rotation:
            video.set_display_rotation(clip.rotation)
        sound: Any = container.add_stream("aac", rate=48000, layout="mono") if clip.sound else None
        if sound:
            sound.metadata["language"] = "fra"
        texts: Any = None
        if clip.subtitles:
            texts = _add_subtitles(container, path)
        if clip.chapters:
            half = pts[len(pts) // 2]
            container.set_chapters(
                [
                    _chapter(1, 0, half, "Beginning"),
                    _chapter(2, half, pts[-1], "End"),
                ]
            )
        container.start_encoding()
        if texts:
            _mux_subtitle(container, texts, pts)
        for index, at in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(
                shown(index, clip, deep), "rgb48le" if deep else "rgb24"
            ).reformat(
                format=clip.pixel,
                dst_colorspace=clip.matrix,
                src_color_range=2,
                dst_color_range=clip.range,
                interpolation=EXACT,
            )
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            following = pts[index + 1] if index + 1 < len(pts) else at + 40
            frame.duration = following - at
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            _mux_tone(container, sound, (pts[-1] + 40) / 1000)
    return path


def _chapter(number: int, start: int, end: int, title: str) -> Any:
    times = {"start": start, "end": end, "time_base": Fraction(1, 1000)}
    return {"id": number, **times, "metadata": {"title": title}}


def _add_subtitles(container: Any, path: Path) -> Any:
    """Add a text stream by copying one from a .srt file, or converting it for MP4."""
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:00,200 --> 00:00:00,600\nBonjour\n", encoding="utf-8")
    with av.open(str(text)) as source:
        original = source.streams.subtitles[0]
        if path.suffix in CONVERTED:
            stream = subtitles.add(container, original, "mov_text")
        else:
            stream = container.add_stream_from_template(original)
    stream.metadata["language"] = "fra"
    return stream


def _mux_subtitle(container: Any, stream: Any, pts: list[int]) -> None:
    with av.open(str(Path(container.name).with_suffix(".srt"))) as source:
        found = [packet for packet in source.demux() if packet.size]
        if stream.codec_context.name == "mov_text":
            original = source.streams.subtitles[0]
            found = list(subtitles.Converter(original, stream, container.name).packets(found))
        for packet in found:
            packet.stream = stream
            container.mux(packet)


def _mux_tone(container: Any, stream: Any, seconds: float) -> None:
    count = int(seconds * 48000)
    wave = np.sin(np.arange(count) * 2 * math.pi * 440 / 48000).astype(np.float32)
    for start in range(0, count, 1024):
        block = wave[None, start : start + 1024]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    """Return (time in seconds, bytes) of each packet of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = next(each for each in container.streams if each.type == kind)
        return [
            (round(float((packet.pts or 0) * packet.time_base), 4), bytes(packet))
            for packet in container.demux(stream)
            if packet.size
        ]


def times(path: Path) -> list[float]:
    """Return the presentation time of each frame in seconds."""
    with av.open(str(path)) as container:
        return [round(float(frame.time), 4) for frame in container.decode(video=0)]


def pictures(path: Path) -> list[npt.NDArray[Any]]:
    """Return all frames as RGB, with exact conversion."""
    with av.open(str(path)) as container:
        form = "rgb48le" if "10" in str(container.streams.video[0].format) else "rgb24"
        return [
            np.array(frame.reformat(format=form, interpolation=EXACT).to_ndarray())
            for frame in container.decode(video=0)
        ]
