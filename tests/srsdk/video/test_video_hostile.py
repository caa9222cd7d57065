"""Hostile videos: each is refused with one sentence, leaves no file, and hangs nothing."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

import srsdk
from srsdk.cli.main import main
from srsdk.video import source as sources
from srsdk.video import transcode
from tests.srsdk.video import clips, hostile
from tests.srsdk.video.clips import Clip

BARE: dict[str, Any] = hostile.BARE
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="pipes and sockets in the file system")
HUGE = 14_000
"""Side of a frame that Pillow would refuse and FFmpeg would not."""


@pytest.fixture(scope="module")
def up() -> Iterator[Any]:
    """Stand in for a model."""
    return hostile.Nearest()  # type: ignore[return-value]


def vp8(path: Path, side: int) -> Path:
    """Write a clip whose container says 80x48, and whose first VP8 frame says something else."""
    data = bytearray(clips.make(path, Clip(frames=4, codec="libvpx", **BARE)).read_bytes())
    at = data.index(b"\x9d\x01\x2a") + 3
    data[at : at + 4] = struct.pack("<HH", side, side)
    path.write_bytes(data)
    return path


def gif(path: Path, side: int) -> Path:
    """Write a GIF with a canvas of this size."""
    clip = Clip(frames=4, codec="gif", pixel="rgb8", **BARE)
    data = bytearray(clips.make(path, clip).read_bytes())
    data[6:10] = struct.pack("<HH", side, side)
    path.write_bytes(data)
    return path


def header_size(path: Path) -> Path:
    """Write an AVI whose headers claim huge frames."""
    data = clips.make(path, Clip(frames=4, codec="ffv1", **BARE)).read_bytes()
    small = struct.pack("<II", clips.WIDTH, clips.HEIGHT)
    assert small in data
    path.write_bytes(data.replace(small, struct.pack("<II", 16384, 16384)))
    return path


def picture(path: Path) -> Path:
    """Write a picture."""
    Image.new("RGB", (80, 48)).save(path, "PNG")
    return path


def text(path: Path, content: str) -> Path:
    """Write a text file."""
    path.write_text(content, encoding="utf-8")
    return path


def cut(path: Path) -> Path:
    """Write the first bytes of a clip."""
    clips.make(path, Clip(frames=4))
    os.truncate(path, 300)
    return path


def sizes(path: Path) -> Path:
    """Write a video whose size changes midway: two MPEG streams, one after the other."""
    with av.open(str(path), "w", format="mpegts") as written:
        streams = []
        for side in (96, 128):
            stream: Any = written.add_stream("mpeg2video", rate=25)
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            streams.append(stream)
        data = [
            b"".join(bytes(packet) for packet in _encoded(stream, side))
            for stream, side in zip(streams, (96, 128), strict=True)
        ]
    path.write_bytes(b"".join(data))
    return path


def _encoded(stream: Any, side: int) -> Iterator[Any]:
    for _ in range(6):
        yield from stream.encode(av.VideoFrame(side, side, "yuv420p"))
    yield from stream.encode(None)


def sound(path: Path) -> Path:
    """Write a file without a video stream."""
    with av.open(str(path), "w") as written:
        stream: Any = written.add_stream("aac", rate=48000, layout="mono")
        clips._mux_tone(written, stream, 0.1)
    return path


def late(path: Path) -> Path:
    """Write a fragmented MP4 whose fragment begins at 2^62 ticks."""
    source = clips.make(path.with_name("early.mkv"), Clip(frames=4, **BARE))
    options = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(str(source)) as read, av.open(str(path), "w", options=options) as written:
        copy = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = copy
                written.mux(packet)
    source.unlink()
    data = bytearray(path.read_bytes())
    at = data.index(b"tfdt\x01") + 8
    data[at : at + 8] = struct.pack(">Q", 1 << 62)
    path.write_bytes(data)
    return path


M3U = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty.mkv": (lambda path: text(path, ""), "not a video"),
    "text.txt": (lambda path: text(path, "Call me Ishmael.\n" * 999), "not a video"),
    "text.mkv": (lambda path: text(path, "Call me Ishmael.\n" * 999), "not a video"),
    "picture.png": (picture, "is a PNG picture; its frames, times and transparency are kept by: "),
    "picture.mp4": (picture, "is a PNG picture; its frames, times and transparency are kept by: "),
    "list.m3u8": (lambda path: text(path, M3U.format("http://192.0.2.1/a.ts")), "not a video"),
    "list.ts": (lambda path: text(path, M3U.format("file:///dev/zero")), "not a video"),
    "list.ffconcat": (
        lambda path: text(path, "ffconcat version 1.0\nfile clip.mkv\n"),
        "not a video",
    ),
    "cut.mkv": (cut, "not a video"),
    "sound.mka": (sound, "no video stream"),
    "sizes.m2v": (sizes, "changes size from 96x96 to 128x128"),
    "late.mp4": (late, "has a time stamp or duration of"),
    "large.avi": (header_size, "a frame of more than 178,956,970 pixels"),
    "large.ivf": (lambda path: vp8(path, HUGE), "a frame of more than 178,956,970 pixels"),
    "largest.ivf": (lambda path: vp8(path, 16383), "a frame of more than 178,956,970 pixels"),
    "large.gif": (lambda path: gif(path, HUGE), "is a GIF picture"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is one line of the command, exit code 1, without another file, in seconds."""
    clips.make(tmp_path / "clip.mkv", Clip(frames=2, **BARE))
    make, said = HOSTILE[name]
    path = make(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    began_s = time.monotonic()
    assert main(["video", str(path), str(tmp_path / "out.mkv"), "--model", "gan_x2"]) == 1
    assert time.monotonic() - began_s < 60
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith(f"srsdk: {path}")
    assert said in error
    assert "Traceback" not in error
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the memory from /proc")
@pytest.mark.parametrize("name", ["large.ivf", "large.gif"])
def test_large_frames_are_refused_before_they_are_allocated(name: str, tmp_path: Path) -> None:
    """Neither opening the file nor decoding it takes memory for such a frame."""
    path = HOSTILE[name][0](tmp_path / name)
    code = (
        "import pathlib, resource, sys\nfrom srsdk.video import source\n"
        "from srsdk.errors import PictureError\nimport av\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    source.probe(pathlib.Path(sys.argv[1]))\n"
        "except PictureError:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert int(done.stdout) < 100 << 10, done.stderr


def test_the_limit_is_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One setting for pictures and videos: `PIL.Image.MAX_IMAGE_PIXELS`, doubled."""
    path = clips.make(tmp_path / "in.mkv", Clip(frames=2, **BARE))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", clips.HEIGHT * clips.WIDTH // 2)
    assert sources.probe(path).height == clips.HEIGHT
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", clips.HEIGHT * clips.WIDTH // 2 - 1)
    with pytest.raises(srsdk.PictureError, match=r"has frames of 80x48, at most 3,838 pixels"):
        sources.probe(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert sources.probe(path).width == clips.WIDTH


@POSIX
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "socket", "device"])
def test_only_regular_files(kind: str, tmp_path: Path) -> None:
    """A pipe without a writer would be waited for without end; the command ends at once."""
    with tempfile.TemporaryDirectory() as short:  # the path of a socket has few characters
        path = Path(short) / "in.mkv"
        held = socket.socket(socket.AF_UNIX)
        if kind == "socket":
            held.bind(str(path))
        elif kind == "device":
            path = Path("/dev/zero")
        else:
            os.mkfifo(path)
        if "link" in kind:
            path.with_name("link.mkv").symlink_to(path)
            path = path.with_name("link.mkv")
        call = [sys.executable, "-m", "srsdk", "video", str(path), str(tmp_path / "out.mkv")]
        done = subprocess.run(call, capture_output=True, text=True, timeout=120)
        held.close()
    assert done.returncode == 1
    expected = f"srsdk: {path} is a pipe, socket or device, expected a video file\n"
    assert done.stderr == expected
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_file_is_read(tmp_path: Path, up: Any) -> None:
    """A link to a regular file is that file, whatever its name looks like to FFmpeg."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=2, **BARE))
    names = ["link.mkv"] if sys.platform == "win32" else ["link.mkv", "concat:a|b.mkv", "http:x"]
    for name in names:
        (tmp_path / name).symlink_to(source)
        assert sources.probe(tmp_path / name).height == clips.HEIGHT


@pytest.mark.parametrize("duration", ["99:99:1e308", "inf:0:0", "nan:0:0", "-9:0:0", "9e99:0:0"])
def test_a_false_duration(duration: str, tmp_path: Path, up: Any) -> None:
    """What a header says of the length is shown as progress, and believed for nothing else."""
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as written:
        stream: Any = written.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        stream.metadata["DURATION"] = duration
        for index in range(3):
            frame = av.VideoFrame(16, 16, "yuv420p")
            frame.pts = index
            written.mux(stream.encode(frame))
        written.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"00:00:00.120000000", duration.encode().ljust(18, b"\0")))
    assert sources.probe(path).frames >= 0
    assert transcode.upscale(up, path, tmp_path / "out.mkv").frames == 3


@pytest.mark.parametrize("name", ["out.m3u8", "out.png", "out.mpd"])
def test_targets_of_several_files(name: str, tmp_path: Path, up: Any) -> None:
    """A format that writes files of its own next to the target is refused, and wrote none."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=2, **BARE))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(srsdk.OutputError, match=r"use \.mkv"):
        transcode.upscale(up, source, tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before


def test_damaged_sound_is_skipped(
    tmp_path: Path, up: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Sound that cannot be copied does not cost the frames; it is said once."""
    source = clips.make(tmp_path / "in.ts", Clip(frames=8, subtitles=False, chapters=False))
    data = bytearray(source.read_bytes())
    found = clips.packets(source, "audio")[5][1][:7]
    at = data.index(found)
    data[at : at + 7] = b"\xff\xf1\xff\xff\xff\xff\xff"
    source.write_bytes(data)
    report = transcode.upscale(up, source, tmp_path / "out.mkv")
    assert report.frames == len(clips.times(tmp_path / "out.mkv")) == 8
    assert len(clips.packets(tmp_path / "out.mkv", "audio")) > 3
    assert [record.message.count("are skipped") for record in caplog.records] in ([], [1])


def test_random_damage(tmp_path: Path) -> None:
    """Clips with random flips and cuts are done or refused, in a process with limits."""
    hostile.make_clips(tmp_path)
    call = [sys.executable, "-m", "tests.srsdk.video.hostile", str(tmp_path), "1", "120"]
    done = subprocess.run(
        call, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[3]
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, (lines[-1:], done.stderr[-2000:])
    ends = [line for line in lines if "said" in line]
    assert len(ends) == 120
    assert [line for line in ends if line["left"] or "\n" in line["said"]] == []
    assert 20 < sum(line["said"] == "done" for line in ends) < 110
