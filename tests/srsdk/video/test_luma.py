"""Networks for luma: the planes of a video are never converted to RGB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import srsdk
from srsdk.video import transcode
from tests.srsdk.video import clips
from tests.srsdk.video.clips import Clip

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def up() -> Iterator[srsdk.Upscaler]:
    """Open the model for video."""
    with srsdk.Upscaler("realtime_x2", threads=1) as opened:
        yield opened


def planes(path: Path) -> list[list[npt.NDArray[np.uint8]]]:
    """Return the planes of all frames."""
    with av.open(str(path)) as container:
        return [
            [
                np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width].copy()
                for plane in frame.planes
            ]
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("pixel", ["yuv420p", "yuv422p", "yuv444p"])
def test_luma_is_what_the_network_makes_of_it(
    tmp_path: Path, up: srsdk.Upscaler, pixel: str
) -> None:
    """In a lossless codec, luma is the network's result to the bit; chroma is bicubic."""
    clip = Clip(frames=5, pixel=pixel, codec="ffv1", sound=False)
    source = clips.make(tmp_path / "in.mkv", clip)
    target = tmp_path / "out.mkv"
    transcode.upscale(up, source, target, codec="ffv1")
    for before, after in zip(planes(source), planes(target), strict=True):
        np.testing.assert_array_equal(after[0], up(before[0]))
        for small, large in zip(before[1:], after[1:], strict=False):
            bicubic = Image.fromarray(small).resize(large.shape[::-1], Image.Resampling.BICUBIC)
            # not the same cubic: FFmpeg's is a little sharper than Pillow's
            assert np.abs(np.asarray(bicubic).astype(int) - large).max() <= 4


@pytest.mark.parametrize(("matrix", "range_"), [(1, 1), (1, 2), (6, 1), (9, 2)])
def test_colors_are_kept(tmp_path: Path, up: srsdk.Upscaler, matrix: int, range_: int) -> None:
    """Range and matrix are those of the source, and so are the colors."""
    source = clips.make(
        tmp_path / "in.mkv", Clip(frames=3, matrix=matrix, range=range_, sound=False)
    )
    target = tmp_path / "out.mkv"
    transcode.upscale(up, source, target, crf=4)
    with av.open(str(target)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (matrix, range_)
    for before, after in zip(clips.pictures(source), clips.pictures(target), strict=True):
        np.testing.assert_allclose(before.mean((0, 1)), after.mean((0, 1)), atol=1.5)


def test_other_layouts_of_the_same_planes(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """A decoder's interleaved chroma gives the same result as planes."""
    first = clips.make(tmp_path / "in.mkv", Clip(frames=3, sound=False))
    results = []
    for name in ("yuv420p", "nv12"):
        source = tmp_path / f"{name}.nut"
        with av.open(str(first)) as container, av.open(str(source), "w") as copy:
            stream: Any = copy.add_stream("rawvideo", rate=25)
            stream.width, stream.height, stream.pix_fmt = clips.WIDTH, clips.HEIGHT, name
            for frame in container.decode(video=0):
                copy.mux(stream.encode(frame.reformat(format=name)))
        target = tmp_path / f"{name}.mkv"
        transcode.upscale(up, source, target, codec="ffv1")
        results.append(planes(target))
    for one, other in zip(*results, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_rgb_and_deep_videos_are_upscaled_too(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Videos without 8-bit luma are converted to RGB and back."""
    for pixel, codec in (("gray", "ffv1"), ("rgb24", "libx264rgb"), ("yuv420p10le", "libx265")):
        clip = Clip(frames=2, pixel=pixel, codec=codec, sound=False)
        source = clips.make(tmp_path / f"{pixel}.mkv", clip)
        target = tmp_path / f"{pixel}-out.mkv"
        assert transcode.upscale(up, source, target, crf=4).frames == 2
        for before, after in zip(clips.pictures(source), clips.pictures(target), strict=True):
            np.testing.assert_allclose(before.mean((0, 1)), after.mean((0, 1)), atol=1.5 * 257)


def test_a_gray_picture_is_luma(up: srsdk.Upscaler) -> None:
    """A gray array gives the luma of the same picture in RGB, but for the rounding of Pillow."""
    random = np.random.default_rng(0)
    gray = np.repeat(np.repeat(random.integers(0, 256, (12, 16), dtype=np.uint8), 4, 0), 4, 1)
    alone = up(gray)
    assert alone.shape == (96, 128)
    colored = up(np.dstack([gray] * 3))
    difference = np.abs(colored.astype(int) - alone[..., None])
    assert difference.max() <= 4
    assert difference.mean() < 0.5
    deep = up(gray.astype(np.uint16) * 257)
    assert deep.dtype == np.uint16
    assert deep.shape == (96, 128)
