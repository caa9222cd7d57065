"""What becomes of the other streams: copied, converted, refused by name, or left out by name."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

import srsdk
from srsdk.video import transcode
from srsdk.video.streams import subtitles
from srsdk.video.streams.subtitles import Cue, one_at_a_time
from tests.srsdk.video import clips
from tests.srsdk.video.clips import Clip

TEXTS = [
    (200, 400, "Bonjour"),
    (400, 500, "Second\nline, <b>bold</b> & <i>italic</i>"),
    (640, 900, "漢字 é"),
]
"""Start and end in milliseconds, and the text as SubRip writes it."""

needs_ffprobe = pytest.mark.skipif(
    shutil.which("ffprobe") is None, reason="needs ffprobe, which comes with ffmpeg"
)


@pytest.fixture(scope="module")
def up() -> Any:
    """Open a real Upscaler once."""
    with srsdk.Upscaler("realtime_x2", optimize="throughput") as opened:
        yield opened


def clip_with(path: Path, kind: str) -> Path:
    """Write a clip with subtitles of a kind: the texts above, a second language, and a tone."""
    plain = clips.make(path.with_name("plain.mkv"), Clip(subtitles=False, chapters=False))
    text = path.with_name("texts.srt")
    blocks = [f"{n}\n{_clock(a)} --> {_clock(b)}\n{t}\n" for n, (a, b, t) in enumerate(TEXTS, 1)]
    text.write_text("\n".join(blocks), encoding="utf-8")
    with (
        av.open(str(plain)) as moving,
        av.open(str(text)) as spoken,
        av.open(str(path), "w") as out,
    ):
        streams = {s.index: out.add_stream_from_template(s) for s in moving.streams}
        original = spoken.streams.subtitles[0]
        added = [subtitles.add(out, original, kind) for _ in range(2)]
        for stream, language in zip(added, ("fra", "jpn"), strict=True):
            stream.metadata["language"] = language
        out.start_encoding()
        found = list(spoken.demux(original))
        for stream in added:
            for packet in subtitles.Converter(original, stream, text).packets(found):
                out.mux(packet)
        for packet in moving.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return path


def _clock(ms: int) -> str:
    return f"00:00:{ms // 1000:02},{ms % 1000:03}"


def shown(path: Path, number: int = 0) -> list[tuple[int, int, str]]:
    """Return (start, end, text with tags) of a stream, from the first frame on, by FFmpeg."""
    with av.open(str(path)) as container:
        first_s = min(float(frame.time) for frame in container.decode(video=0))
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[number]
        for packet in container.demux(stream):
            for text in stream.decode(packet) if packet.size else ():
                start_s = float((packet.pts or 0) * packet.time_base) - first_s
                end_s = start_s + float((packet.duration or 0) * packet.time_base)
                dialogue = text.ass.decode().split(",", 8)[-1]  # type: ignore[union-attr]
                found.append((round(start_s * 1000), round(end_s * 1000), _tags(dialogue)))
    return found


def _tags(event: str) -> str:
    """Return an ASS event in SubRip's writing."""
    text = event.replace("\\N", "\n")
    for tag, name in (("\\b", "b"), ("\\i", "i")):
        before, begin, after = text.partition(f"{{{tag}1}}")
        if begin:
            end = min(
                (after.find(x) for x in (f"{{{tag}0}}", "{\\r}") if x in after), default=len(after)
            )
            rest = after[end:].split("}", 1)[-1] if end < len(after) else ""
            text = f"{before}<{name}>{after[:end]}</{name}>{rest}"
    return text


@pytest.mark.parametrize(
    ("kind", "suffix", "expected"),
    [
        ("mov_text", "mkv", "subrip"),
        ("subrip", "mp4", "mov_text"),
        ("ass", "mp4", "mov_text"),
        ("subrip", "mov", "mov_text"),
        ("mov_text", "webm", "webvtt"),
    ],
)
def test_text_subtitles_are_converted(
    tmp_path: Path, up: srsdk.Upscaler, kind: str, suffix: str, expected: str
) -> None:
    """Times, text, bold, italic and languages are those of the source, in each stream."""
    source = clip_with(tmp_path / f"in.{'mp4' if kind == 'mov_text' else 'mkv'}", kind)
    assert shown(source) == TEXTS
    target = tmp_path / f"out.{suffix}"
    transcode.upscale(up, source, target, drop=suffix == "webm")
    assert shown(target) == shown(target, 1) == TEXTS
    with av.open(str(target)) as container:
        streams = container.streams.subtitles
        assert [s.codec_context.codec.canonical_name for s in streams] == [expected] * 2
        assert [s.metadata["language"] for s in streams] == ["fra", "jpn"]


@needs_ffprobe
@pytest.mark.parametrize(
    ("kind", "ours", "theirs"), [("mov_text", "mp4", "mkv"), ("subrip", "mkv", "mp4")]
)
def test_players_find_the_same_times(
    tmp_path: Path, up: srsdk.Upscaler, kind: str, ours: str, theirs: str
) -> None:
    """Another FFmpeg, as players have it, reads what it read in the source."""
    source = clip_with(tmp_path / f"in.{ours}", kind)
    transcode.upscale(up, source, tmp_path / f"out.{theirs}")
    assert probed(tmp_path / f"out.{theirs}") == probed(source) == [(a, b) for a, b, _ in TEXTS]


def probed(path: Path) -> list[tuple[int, int]]:
    """Return start and end of each text in milliseconds, from the first frame on."""
    call = ["ffprobe", "-v", "error", "-print_format", "json", "-show_packets", str(path)]
    packets = json.loads(subprocess.check_output(call))["packets"]
    first_s = min(float(p["pts_time"]) for p in packets if p["codec_type"] == "video")
    found = []
    for packet in packets:
        # 2 bytes are an MP4's empty text between two others
        if (
            packet["codec_type"] == "subtitle"
            and int(packet["size"]) > 2
            and packet["stream_index"] == 2
        ):
            start_s = float(packet["pts_time"]) - first_s
            end_s = start_s + float(packet["duration_time"])
            found.append((round(start_s * 1000), round(end_s * 1000)))
    return found


def test_texts_at_the_same_time_are_joined_for_mp4() -> None:
    """MP4 shows one text after another: what overlaps is shown together, in order."""
    head = b"0,0,Default,,0,0,0,,"
    cues = [Cue(0, 3000, head + b"long"), Cue(1000, 2000, head + b"short, with a comma")]
    assert one_at_a_time(cues) == [
        Cue(0, 1000, head + b"long"),
        Cue(1000, 2000, head + b"long{\\r}\\Nshort, with a comma"),
        Cue(2000, 3000, head + b"long"),
    ]


def test_many_texts_at_once_stay_readable() -> None:
    """Of a thousand overlapping texts the latest are shown; time grows with their number only."""
    cues = [Cue(n, 100_000, b"0,0,Default,,0,0,0,,%d" % n) for n in range(1000)]
    last = one_at_a_time(cues)[-1]
    assert last.event.count(b"\\N") == subtitles.MOST_LINES - 1
    assert last.event.endswith(b"999")


def clip_with_everything(tmp_path: Path) -> Path:
    """Write a clip with bitmap subtitles and a font, which only Matroska holds."""
    plain = clips.make(tmp_path / "plain.mkv", Clip(subtitles=False))
    path = tmp_path / "in.mkv"
    with av.open(str(plain)) as moving, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in moving.streams}
        picture: Any = out.add_stream("dvbsub")
        picture.codec_context.time_base = Fraction(1, 1000)
        picture.metadata["language"] = "eng"
        out.add_attachment("odd.ttf", "application/x-truetype-font", b"\0\1\0\0 no real font")
        out.start_encoding()
        for packet in moving.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return path


def test_what_cannot_go_is_named(
    tmp_path: Path, up: srsdk.Upscaler, caplog: pytest.LogCaptureFixture
) -> None:
    """An error names each stream before any work; with `drop` a warning does, once."""
    source = clip_with_everything(tmp_path)
    named = r"stream 2 \(subtitle dvb\w+, eng\), stream 3 \(attachment odd.ttf\)"
    with pytest.raises(srsdk.OutputError, match=rf"cannot hold {named}; drop=True leaves them out"):
        transcode.upscale(up, source, tmp_path / "out.mp4")
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
    with caplog.at_level(logging.WARNING, "srsdk"):
        transcode.upscale(up, source, tmp_path / "out.mp4", drop=True)
    (warning,) = [record.message for record in caplog.records]
    assert warning.startswith(f"{tmp_path / 'out.mp4'} is made without stream 2 (subtitle dvb")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def test_matroska_holds_what_mp4_does_not(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Bitmap subtitles and fonts go into .mkv without a word."""
    source = clip_with_everything(tmp_path)
    transcode.upscale(up, source, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        kinds = [stream.type for stream in container.streams]
    assert kinds == ["video", "audio", "subtitle", "attachment"]


def test_no_text_fits_into_avi_or_mpegts(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """Formats without text subtitles say so, although FFmpeg would write what nobody reads."""
    source = clip_with(tmp_path / "in.mkv", "subrip")
    for suffix in ("avi", "ts"):
        with pytest.raises(
            srsdk.OutputError, match=r"cannot hold stream 2 .*, stream 3 .*use .mkv"
        ):
            transcode.upscale(up, source, tmp_path / f"out.{suffix}")


def test_an_unknown_suffix_is_no_stream(tmp_path: Path, up: srsdk.Upscaler) -> None:
    """It is the suffix that is named, not each stream of the source."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=3))
    with pytest.raises(srsdk.OutputError, match=r"\.nope is no video format .*use .mkv"):
        transcode.upscale(up, source, tmp_path / "out.nope")


def test_damaged_texts_are_skipped(
    tmp_path: Path, up: srsdk.Upscaler, caplog: pytest.LogCaptureFixture
) -> None:
    """A text that is no UTF-8 costs itself, and one warning."""
    source = clip_with(tmp_path / "in.mp4", "mov_text")
    data = bytearray(source.read_bytes())
    at = data.index(b"Bonjour")
    data[at : at + 1] = b"\xff"
    source.write_bytes(data)
    with caplog.at_level(logging.WARNING, "srsdk"):
        transcode.upscale(up, source, tmp_path / "out.mkv")
    assert shown(tmp_path / "out.mkv") == TEXTS[1:]
    assert len([r for r in caplog.records if "damaged subtitles" in r.message]) == 1
