"""Convert decoded frames to RGB, or hand out their planes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from srsdk.video.ffmpeg import import_av

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Converted = tuple[npt.NDArray[Any], tuple[npt.NDArray[Any], ...]]
"""`pixels` and `chroma` of a `Frame`."""


class Rgb:
    """Converts decoded frames to RGB."""

    def __init__(self, bits: int) -> None:
        av = import_av()
        flags = av.video.reformatter.Interpolation
        # without these flags libswscale is off by up to 2 levels
        self._exact = (
            flags.BICUBIC | flags.ACCURATE_RND | flags.FULL_CHR_H_INT | flags.FULL_CHR_H_INP
        )
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._format = "rgb24" if bits == 8 else "rgb48le"

    def __call__(self, frame: VideoFrame) -> Converted:
        """Return the frame as (H, W, 3) RGB, and no chroma."""
        converted = self._reformatter.reformat(
            frame, format=self._format, interpolation=self._exact, threads=1
        )
        return np.asarray(converted.to_ndarray()), ()


class Planes:
    """Hands out the planes of decoded frames, without a copy where the format is already right."""

    def __init__(self, form: str, color_range: int) -> None:
        self._reformatter = import_av().video.reformatter.VideoReformatter()
        self._format = form
        self._range = color_range
        # the obsolete yuvj formats are the same bytes in full range
        self._same = (form, form.replace("yuv", "yuvj"))

    def __call__(self, frame: VideoFrame) -> Converted:
        """Return luma and both chroma planes of the frame."""
        if frame.format.name not in self._same:
            frame = self._reformatter.reformat(
                frame,
                format=self._format,
                src_color_range=self._range,
                dst_color_range=self._range,
                threads=1,
            )
        luma, *chroma = (plane_of(plane) for plane in frame.planes)
        return luma, tuple(chroma)


def plane_of(plane: Any) -> npt.NDArray[Any]:
    """Return a plane of a frame as (H, W) uint8: a view, which keeps the frame in memory."""
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]
