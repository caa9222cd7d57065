"""Videos through pipes: real processes, and the same frames as through files."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import srsdk
from srsdk.cli.main import main
from srsdk.video import transcode
from tests.srsdk.video import clips
from tests.srsdk.video.clips import Clip

LOSSLESS = {"codec": "ffv1"}


@pytest.fixture(scope="module")
def up() -> Any:
    """Open a real Upscaler once."""
    with srsdk.Upscaler("realtime_x2", optimize="throughput") as opened:
        yield opened


def planes(path: Path | io.BytesIO) -> list[bytes]:
    """Return the bytes of all frames."""
    with av.open(str(path) if isinstance(path, Path) else path, "r") as container:
        return [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]


def through_a_pipe(data: bytes, run: Callable[[Any], Any]) -> Any:
    """Give `run` the reading end of a pipe that another thread writes the data into."""
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        with os.fdopen(reading, "rb") as file:
            return run(file)
    finally:
        feeder.join()


@pytest.mark.parametrize(
    ("pixel", "codec", "name"),
    [
        ("yuv420p", "libx264", b"C420jpeg"),
        ("yuv422p", "libx264", b"C422"),
        ("yuv444p", "libx264", b"C444"),
        ("yuv420p10le", "libx265", b"C420p10"),
    ],
)
def test_y4m_holds_the_frames_of_a_lossless_file(
    tmp_path: Path, up: srsdk.Upscaler, pixel: str, codec: str, name: bytes
) -> None:
    """Every byte of every frame, in each pixel format; the header says rate, aspect and range."""
    clip = Clip(frames=8, pixel=pixel, codec=codec, aspect=Fraction(4, 3), sound=False)
    source = clips.make(tmp_path / "in.mkv", clip)
    written = io.BytesIO()
    report = transcode.upscale(up, source, written)
    assert (report.frames, str(report.target)) == (8, "-")
    head = f"YUV4MPEG2 W{2 * clips.WIDTH} H{2 * clips.HEIGHT} F25:1 Ip A4:3 ".encode()
    assert written.getvalue().startswith(head + name + b" XCOLORRANGE=LIMITED\n")
    transcode.upscale(up, source, tmp_path / "out.mkv", codec="ffv1")
    written.seek(0)
    assert planes(written) == planes(tmp_path / "out.mkv")


def test_an_uneven_rate_becomes_even(
    tmp_path: Path, up: srsdk.Upscaler, caplog: pytest.LogCaptureFixture
) -> None:
    """Frames are repeated where the video holds them longer, and one warning counts them."""
    pts = [*range(0, 400, 40), 600, *range(640, 1000, 40)]
    source = clips.make(tmp_path / "in.mkv", Clip(pts=pts, sound=False, subtitles=False))
    written = io.BytesIO()
    with caplog.at_level(logging.WARNING, "srsdk"):
        transcode.upscale(up, source, written)
    written.seek(0)
    with av.open(written, "r") as container:
        (stream,) = container.streams.video
        shown_s = len(list(container.decode(video=0))) / float(stream.average_rate or 0)
    assert shown_s == pytest.approx(1, abs=0.05)
    (warning,) = [record.message for record in caplog.records]
    assert "y4m has one frame rate" in warning


def test_what_y4m_leaves_out_is_said_once(
    tmp_path: Path, up: srsdk.Upscaler, caplog: pytest.LogCaptureFixture
) -> None:
    """Sound and subtitles do not go through the pipe."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=4))
    with caplog.at_level(logging.WARNING, "srsdk"):
        transcode.upscale(up, source, io.BytesIO())
    messages = [record.message for record in caplog.records]
    assert messages == [
        "y4m holds frames only: audio, subtitle left out; name a file to keep everything"
    ]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_container_from_a_pipe_keeps_its_streams(
    tmp_path: Path, up: srsdk.Upscaler, suffix: str
) -> None:
    """Read once, from its beginning to its end: sound, subtitles, chapters, times and tags."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=40))
    target, by_name = tmp_path / f"piped.{suffix}", tmp_path / f"named.{suffix}"
    through_a_pipe(source.read_bytes(), lambda file: transcode.upscale(up, file, target))
    transcode.upscale(up, source, by_name)
    assert clips.times(target) == clips.times(by_name)
    assert len(clips.times(target)) == 40
    for kind in ("audio", "subtitle"):
        assert clips.packets(target, kind) == clips.packets(by_name, kind)
    for mine, theirs in zip(clips.pictures(target), clips.pictures(by_name), strict=True):
        # x264's threads decide a little for themselves: 1.02 was seen on a busy machine
        assert np.abs(mine.astype(int) - theirs).mean() < 2
    with av.open(str(target)) as container:
        assert container.metadata["title"] == "Odd clip"
        assert len(container.chapters()) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_from_pipe_to_pipe(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """y4m in, y4m out: the frames of the same video as files."""
    clip = Clip(frames=6, sound=False, subtitles=False)
    source = clips.make(tmp_path / "in.mkv", clip)
    small = io.BytesIO()
    with av.open(str(source)) as container, av.open(small, "w", format="yuv4mpegpipe") as out:
        stream: Any = out.add_stream("wrapped_avframe", rate=25)
        stream.width, stream.height, stream.pix_fmt = clips.WIDTH, clips.HEIGHT, "yuv420p"
        for index, frame in enumerate(container.decode(video=0)):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
    large, named = io.BytesIO(), io.BytesIO()
    through_a_pipe(small.getvalue(), lambda file: transcode.upscale(up, file, large))
    transcode.upscale(up, source, named)
    for written in (large, named):
        written.seek(0)
    assert planes(large) == planes(named)


def test_errors_of_pipes(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """No video, no resume, no encoder for y4m: an error each, and no file."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=3, sound=False, subtitles=False))
    out = tmp_path / "out.mkv"
    for given, target, options, message in (
        (io.BytesIO(b""), out, {}, "is not a video that FFmpeg can read from a pipe"),
        (io.BytesIO(b"no video"), out, {}, "is not a video that FFmpeg can read from a pipe"),
        (io.BytesIO(source.read_bytes()), out, {"resume": True}, "cannot be read again"),
        (source, io.BytesIO(), {"resume": True}, "a pipe keeps nothing"),
        (source, io.BytesIO(), {"crf": 20}, "crf= is for files"),
    ):
        with pytest.raises(srsdk.SrsdkError, match=message):
            transcode.upscale(up, given, target, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv"]


def test_an_mp4_with_its_index_at_the_end_says_how(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """It cannot be read from a pipe; one whose index comes first can."""
    clip = Clip(frames=60, pixel="yuv444p", sound=False, subtitles=False)
    source = clips.make(tmp_path / "in.mp4", clip)
    # larger than what FFmpeg keeps in memory while it looks for the index
    data = source.read_bytes()
    moov = data.index(b"moov") - 4
    padded = (
        data[:moov] + (8 << 20).to_bytes(4, "big") + b"free" + bytes((8 << 20) - 8) + data[moov:]
    )
    with pytest.raises(srsdk.PictureError, match=r"index is at its end; .* -movflags \+faststart"):
        through_a_pipe(padded, lambda file: transcode.upscale(up, file, tmp_path / "out.mkv"))
    with (
        av.open(str(source)) as moving,
        av.open(str(tmp_path / "first.mp4"), "w", options={"movflags": "+faststart"}) as out,
    ):
        stream = out.add_stream_from_template(moving.streams.video[0])
        for packet in moving.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    data = (tmp_path / "first.mp4").read_bytes()
    done = through_a_pipe(data, lambda file: transcode.upscale(up, file, tmp_path / "out.mkv"))
    assert done.frames == 60


def test_a_gap_of_hours_is_no_endless_pipe(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """A damaged time stamp is an error instead of frames repeated for days."""
    pts = [0, 40, 80, 86_400_000, 86_400_040]
    source = clips.make(tmp_path / "in.mkv", Clip(pts=pts, sound=False, subtitles=False))
    with pytest.raises(srsdk.PictureError, match="has no frame for"):
        transcode.upscale(up, source, Counting())


class Counting(io.BytesIO):
    """Forgets what is written."""

    def write(self, data: Any) -> int:
        """Take the bytes."""
        return len(memoryview(data).cast("B"))


def test_a_full_disk_behind_a_pipe_is_an_output_error(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Other errors than a closed pipe are translated, as for files."""

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    source = clips.make(tmp_path / "in.mkv", Clip(frames=3, sound=False, subtitles=False))
    with pytest.raises(srsdk.OutputError, match="cannot be written: No space left"):
        transcode.upscale(up, source, Full())


def run(arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start the command line in a process of its own."""
    call = [sys.executable, "-m", "srsdk", "video", *arguments]
    return subprocess.Popen(call, stderr=subprocess.PIPE, **options)


def test_two_commands_in_a_row(tmp_path: Path) -> None:
    """`srsdk video IN - | srsdk video - OUT`: twice the size twice, nothing else on stdout."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=5, sound=False, subtitles=False))
    target = tmp_path / "out.mkv"
    with (
        run([str(source), "-"], stdout=subprocess.PIPE) as first,
        run(["-", str(target)], stdin=first.stdout) as second,
    ):
        assert first.stdout is not None
        first.stdout.close()
        _, error = second.communicate(timeout=200)
    assert (first.returncode, second.returncode) == (0, 0), error
    assert {picture.shape for picture in clips.pictures(target)} == {
        (4 * clips.HEIGHT, 4 * clips.WIDTH, 3)
    }
    assert b"standard input -> " in error


def test_a_closed_pipe_ends_in_silence(tmp_path: Path) -> None:
    """The reader has seen enough: exit code 1, no traceback, no message."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=24, sound=False, subtitles=False))
    with run([str(source), "-", "--quiet"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(9) == b"YUV4MPEG2"
        child.stdout.close()
        assert child.stderr is not None
        assert child.stderr.read() == b""
    assert child.returncode == 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_stopped_pipe_leaves_what_is_done(tmp_path: Path) -> None:
    """Ctrl-C while the writer is silent: the run ends, and its frames play."""
    clip = Clip(frames=40, codec="rawvideo", sound=False, subtitles=False, chapters=False)
    source = clips.make(tmp_path / "in.nut", clip)
    with run(["-", str(tmp_path / "out.mkv")], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        data = source.read_bytes()
        child.stdin.write(data[: len(data) * 3 // 4])
        child.stdin.flush()
        end = time.monotonic() + 100
        while not list(tmp_path.glob(".*.tmp.mkv")) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1)  # some frames
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=60) == 130
        assert child.stderr is not None
        assert b"out.partial.mkv holds the finished part" in child.stderr.read()
    assert 0 < len(clips.times(tmp_path / "out.partial.mkv")) < 40
    assert not list(tmp_path.glob(".*"))


def test_terminals_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither frames on a screen nor keys as a video."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=3, sound=False, subtitles=False))
    for arguments, stream, message in (
        ([str(source), "-"], "stdout", "standard output is a terminal; pipe it on"),
        ([str(source), "-o", "-"], "stdout", "standard output is a terminal; pipe it on"),
        (["-", "out.mkv"], "stdin", "standard input is a terminal; pipe a video into it"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(getattr(sys, stream), "isatty", lambda: True)
            assert main(["video", *arguments]) == 2
        assert message in capsys.readouterr().err
