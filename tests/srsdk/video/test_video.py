"""Test videos: everything but the pixels is kept, as read back through FFmpeg."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.video import parts, transcode
from tests.srsdk.video import clips
from tests.srsdk.video.clips import Clip

UNEVEN = [0, 40, 80, 200, 240, 400, 433, 470, 600, 700, 900, 1000, 1010, 1300]


@pytest.fixture(scope="module")
def up() -> Any:
    """Open a real Upscaler once."""
    with srsdk.Upscaler("gan_x2", optimize="throughput") as opened:
        yield opened


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten parts so that each clip has several."""
    monkeypatch.setattr(parts, "PART_FRAMES", 5)


def streams(path: Path) -> list[tuple[str, str, str | None]]:
    """Return (kind, codec, language) of all streams."""
    with av.open(str(path)) as container:
        return [
            (each.type, each.codec_context.name, each.metadata.get("language"))
            for each in container.streams
        ]


def chapters(path: Path) -> list[tuple[float, str]]:
    """Return (start in seconds, title)."""
    with av.open(str(path)) as container:
        return [
            (round(float(each["start"] * (each["time_base"] or 1)), 3), each["metadata"]["title"])
            for each in container.chapters()
        ]


@pytest.mark.parametrize("pts", [None, UNEVEN], ids=["even", "uneven"])
def test_all_but_the_pixels_is_kept(
    tmp_path: Path, up: srsdk.Upscaler, pts: list[int] | None
) -> None:
    """Audio and subtitles are kept byte for byte, times to the tick, and all metadata."""
    source = clips.make(tmp_path / "in.mkv", Clip(pts=pts, aspect=Fraction(4, 3)))
    target = tmp_path / "out.mkv"
    report = transcode.upscale(up, source, target)
    assert clips.times(target) == clips.times(source)
    assert report.frames == report.computed == len(clips.times(source))
    for kind in ("audio", "subtitle"):
        assert clips.packets(target, kind) == clips.packets(source, kind)
        assert clips.packets(source, kind)
    assert streams(target) == streams(source)
    assert chapters(target) == chapters(source)
    assert [title for _, title in chapters(target)] == ["Beginning", "End"]
    with av.open(str(target)) as container:
        assert container.metadata["title"] == "Odd clip"
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (2 * clips.WIDTH, 2 * clips.HEIGHT)
        assert stream.sample_aspect_ratio == Fraction(4, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "in.srt", "out.mkv"]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "webm"])
def test_other_containers(tmp_path: Path, up: srsdk.Upscaler, suffix: str) -> None:
    """Uneven times, several parts and reordered frames work in other containers."""
    clip = Clip(pts=UNEVEN, sound=suffix != "webm", subtitles=False)
    source = clips.make(tmp_path / "in.mkv", clip)
    target = tmp_path / f"out.{suffix}"
    transcode.upscale(up, source, target)
    assert clips.times(target) == pytest.approx(clips.times(source), abs=0.001)
    assert len(clips.pictures(target)) == len(UNEVEN)
    assert [title for _, title in chapters(target)] == ["Beginning", "End"]
    if clip.sound:
        theirs, ours = clips.packets(source, "audio"), clips.packets(target, "audio")
        assert [data for _, data in ours] == [data for _, data in theirs]


@pytest.mark.parametrize(
    ("matrix", "range_"), [(1, 1), (1, 2), (5, 1), (6, 2), (9, 1)], ids=lambda value: str(value)
)
def test_colors_are_kept(tmp_path: Path, up: srsdk.Upscaler, matrix: int, range_: int) -> None:
    """Color tags are kept, and channel means stay within half a level of the source's.

    In full range within 1.25: there FFmpeg's converter truncates chroma instead of rounding.
    """
    clip = Clip(frames=6, matrix=matrix, range=range_, pixel="yuv444p", sound=False)
    source = clips.make(tmp_path / "in.mkv", clip)
    target = tmp_path / "out.mkv"
    transcode.upscale(up, source, target, crf=4)
    with av.open(str(target)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (matrix, range_)
        assert context.pix_fmt == ("yuv444p" if range_ == 1 else "yuvj444p")
    for before, after in zip(clips.pictures(source), clips.pictures(target), strict=True):
        near = 0.5 if range_ == 1 else 1.25
        np.testing.assert_allclose(before.mean((0, 1)), after.mean((0, 1)), atol=near)


def test_an_unspecified_matrix_is_guessed_from_the_source(
    tmp_path: Path, up: srsdk.Upscaler
) -> None:
    """Players guess it from the frame size, so the guess for the source size is written."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=3, matrix=2, sound=False))
    transcode.upscale(up, source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.streams.video[0].codec_context.colorspace == 6


@pytest.mark.parametrize("pixel", ["yuv420p", "yuv422p", "yuv444p", "gray"])
def test_the_pixels_are_upscaled(tmp_path: Path, up: srsdk.Upscaler, pixel: str) -> None:
    """Each frame is close to its bicubic enlargement and in the right order."""
    codec = "ffv1" if pixel == "gray" else "libx264"
    clip = Clip(frames=7, pixel=pixel, codec=codec, sound=False, range=1)
    source = clips.make(tmp_path / "in.mkv", clip)
    target = tmp_path / "out.mkv"
    transcode.upscale(up, source, target, crf=4)
    with av.open(str(target)) as container:
        kept = container.streams.video[0].codec_context.pix_fmt
    assert kept == ("yuv420p" if pixel == "gray" else pixel)
    for before, after in zip(clips.pictures(source), clips.pictures(target), strict=True):
        size = (2 * clips.WIDTH, 2 * clips.HEIGHT)
        bicubic = np.asarray(Image.fromarray(before).resize(size, Image.Resampling.BICUBIC))
        assert np.abs(bicubic.astype(int) - after).mean() < 4


def test_ten_bits_stay_ten(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """A ramp of quarter levels comes out as 10 bits with more than 256 levels."""
    try:
        up(np.zeros((4, 4, 3), np.uint16))  # type: ignore[arg-type,type-var,unused-ignore]
    except srsdk.PictureError:
        pytest.skip("this Upscaler supports 8 bits only")
    clip = Clip(frames=6, pixel="yuv420p10le", codec="libx265", sound=False, matrix=9)
    source = clips.make(tmp_path / "in.mkv", clip)
    target = tmp_path / "out.mkv"
    transcode.upscale(up, source, target, crf=4)
    with av.open(str(target)) as container:
        context = container.streams.video[0].codec_context
        assert (context.pix_fmt, context.name) == ("yuv420p10le", "hevc")
        luma = np.concatenate([frame.to_ndarray() for frame in container.decode(video=0)])
    assert len(np.unique(luma[: 2 * clips.HEIGHT])) > 256
    for before, after in zip(clips.pictures(source), clips.pictures(target), strict=True):
        np.testing.assert_allclose(before.mean((0, 1)), after.mean((0, 1)), atol=0.5 * 257)


def test_a_still_picture_is_upscaled_once(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Frames identical to the one before keep their times and reuse its result."""
    clip = Clip(frames=20, codec="ffv1", pixel="yuv444p", held=(4, 14), sound=False)
    source = clips.make(tmp_path / "in.mkv", clip)
    report = transcode.upscale(up, source, tmp_path / "out.mkv")
    assert (report.frames, report.computed, report.repeated) == (20, 11, 9)
    assert clips.times(tmp_path / "out.mkv") == clips.times(source)


def test_rotation_is_kept(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """A portrait video from a phone stays upright."""
    clip = Clip(frames=3, rotation=90, sound=False, subtitles=False)
    source = clips.make(tmp_path / "in.mp4", clip)
    transcode.upscale(up, source, tmp_path / "out.mp4")
    turned = []
    for path in (source, tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            turned.append(next(container.decode(video=0)).rotation)
    assert turned[0] == turned[1]
    assert abs(turned[0]) == 90


def test_progress_counts_frames(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """The callback gets frames done and the total of the file."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=12, sound=False))
    seen: list[tuple[int, int]] = []
    transcode.upscale(up, source, tmp_path / "out.mkv", progress=lambda *both: seen.append(both))
    assert [done for done, _ in seen] == list(range(1, 13))
    assert {total for _, total in seen} == {12}


def test_damaged_frames_are_skipped_with_one_warning(
    tmp_path: Path, up: srsdk.Upscaler, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest of the video is upscaled and keeps its times."""
    clip = Clip(frames=30, codec="png", pixel="rgb24", sound=False, subtitles=False)
    source = clips.make(tmp_path / "in.mov", clip)
    whole = clips.times(source)
    data = bytearray(source.read_bytes())
    _, hit = clips.packets(source, "video")[12]
    at = data.index(hit)
    data[at : at + len(hit)] = bytes(len(hit))
    source.write_bytes(data)
    with caplog.at_level(logging.WARNING, "srsdk"):
        report = transcode.upscale(up, source, tmp_path / "out.mkv")
    assert clips.times(tmp_path / "out.mkv") == [*whole[:12], *whole[13:]]
    assert report.frames == 29
    assert [record.message.count("damaged in places") for record in caplog.records] == [1]


def refused(up: srsdk.Upscaler, source: Path, target: Path, **options: Any) -> str:
    """Return the error message of a run that must fail and leave no files."""
    before = sorted(source.parent.rglob("*"))
    with pytest.raises(srsdk.SrsdkError) as error:
        transcode.upscale(up, source, target, **options)
    assert sorted(source.parent.rglob("*")) == before
    return str(error.value)


def test_errors_come_before_any_work(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Each call fails with one message and leaves no file."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=3))
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "text.mkv").write_text("not a film")
    assert "no such file" in refused(up, tmp_path / "gone.mkv", out / "a.mkv")
    assert "not a video" in refused(up, tmp_path / "text.mkv", out / "a.mkv")
    assert "is a folder" in refused(up, out, out / "a.mkv")
    assert "has no suffix" in refused(up, source, out / "a")
    assert "not a writable folder" in refused(up, source, tmp_path / "text.mkv" / "a.mkv")
    assert "no video encoder" in refused(up, source, out / "a.mkv", codec="libx999")
    assert "encodes audio" in refused(up, source, out / "a.mkv", codec="aac")
    assert "use .mkv, which holds everything" in refused(up, source, out / "a.nope")
    assert "own result" in refused(up, source, source, overwrite=True)
    (out / "a.mkv").write_text("precious")
    assert "overwrite=True" in refused(up, source, out / "a.mkv")
    assert (out / "a.mkv").read_text() == "precious"


def test_audio_only_and_transparency_are_rejected(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Audio alone has no frames; transparency would be lost."""
    with av.open(str(tmp_path / "tone.mka"), "w", format="matroska") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    assert "no video stream" in refused(up, tmp_path / "tone.mka", tmp_path / "a.mkv")
    clip = Clip(frames=2, codec="ffv1", pixel="yuva420p", sound=False, subtitles=False)
    glass = clips.make(tmp_path / "glass.mkv", clip)
    assert "transparency" in refused(up, glass, tmp_path / "a.mkv")


def test_a_playlist_opens_no_connection(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Only local files are opened, even if a playlist names URLs."""
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(srsdk.PictureError):
        transcode.upscale(up, playlist, tmp_path / "a.mkv")
