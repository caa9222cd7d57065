"""Test interrupted videos: the partial file plays, and a resumed run gives the same result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srsdk
from srsdk.cli.main import main
from srsdk.system.processor import processor
from srsdk.video import parts, transcode
from tests.srsdk.video import clips
from tests.srsdk.video.clips import Clip

FRAMES = 40


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten parts so that each clip has several."""
    monkeypatch.setattr(parts, "PART_FRAMES", 8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a clip with audio."""
    return clips.make(tmp_path / "in.mkv", Clip(frames=FRAMES))


@pytest.fixture
def undisturbed(source: Path, tmp_path: Path) -> list[tuple[float, bytes]]:
    """Return the packets of a run without interruption.

    Encoded as FFV1: for such small pictures x264 output differs from run to run.
    """
    with srsdk.Upscaler("gan_x2", threads=1) as up:
        transcode.upscale(up, source, tmp_path / "whole.mkv", codec="ffv1")
    return clips.packets(tmp_path / "whole.mkv", "video")


def stop_after(frames: int) -> Any:
    """Return a progress callback that behaves like Ctrl-C."""

    def progress(done: int, _: int) -> None:
        if done == frames:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("stops", [[1], [7], [8], [9, 21, 39], [FRAMES]])
def test_stop_and_resume(
    source: Path,
    undisturbed: list[tuple[float, bytes]],
    tmp_path: Path,
    stops: list[int],
) -> None:
    """After each stop a playable file has the frames so far; the final bytes are the same."""
    target, partial = tmp_path / "out.mkv", tmp_path / "out.partial.mkv"
    with srsdk.Upscaler("gan_x2", threads=1) as up:
        for number, frames in enumerate(stops):
            with pytest.raises(KeyboardInterrupt):
                transcode.upscale(
                    up,
                    source,
                    target,
                    codec="ffv1",
                    resume=number > 0,
                    progress=stop_after(frames),
                )
            assert not target.exists()
            shown = clips.times(partial)
            assert frames <= len(shown) <= min(FRAMES, frames + up.ahead + 8)
            assert shown == clips.times(source)[: len(shown)]
            sound = clips.packets(partial, "audio")
            assert 0 < len(sound) <= len(clips.packets(source, "audio"))
            assert len(shown) == FRAMES or sound[-1][0] <= shown[-1] + 0.1
        report = transcode.upscale(up, source, target, codec="ffv1", resume=True)
    assert report.frames == FRAMES
    assert clips.packets(target, "video") == undisturbed
    assert clips.packets(target, "audio") == clips.packets(source, "audio")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"in.mkv", "in.srt", "whole.mkv", "out.mkv"}


def test_a_failure_leaves_the_finished_parts(
    source: Path, undisturbed: list[tuple[float, bytes]], tmp_path: Path
) -> None:
    """A run can resume after any error, and no incomplete file gets the target name."""

    def progress(done: int, _: int) -> None:
        if done == 20:
            raise RuntimeError("the caller's own")

    target = tmp_path / "out.mkv"
    with srsdk.Upscaler("gan_x2", threads=1) as up:
        with pytest.raises(RuntimeError, match="own"):
            transcode.upscale(up, source, target, codec="ffv1", progress=progress)
        assert not target.exists()
        assert len(list((tmp_path / ".out.mkv.parts").glob("*.nut"))) == 2
        assert not list((tmp_path / ".out.mkv.parts").glob("*.tmp"))
        done: list[int] = []
        transcode.upscale(
            up,
            source,
            target,
            codec="ffv1",
            resume=True,
            progress=lambda at, _: done.append(at),
        )
    assert done[0] == 17
    assert clips.packets(target, "video") == undisturbed


def test_reordered_frames_across_stops(tmp_path: Path) -> None:
    """Stopping works with x264 and x265, whose decoding order differs from display order."""
    silent = clips.make(tmp_path / "silent.mkv", Clip(frames=FRAMES, subtitles=False))
    for codec in ("libx264", "libx265"):
        target = tmp_path / f"{codec}.mp4"
        with srsdk.Upscaler("gan_x2") as up:
            with pytest.raises(KeyboardInterrupt):
                transcode.upscale(up, silent, target, codec=codec, progress=stop_after(21))
            partial = clips.times(tmp_path / f"{codec}.partial.mp4")
            assert partial == clips.times(silent)[: len(partial)]
            transcode.upscale(up, silent, target, codec=codec, resume=True)
        assert clips.times(target) == clips.times(silent)


def test_parts_of_another_run_are_not_resumed(source: Path, tmp_path: Path) -> None:
    """Another model, setting or video, or forgotten parts, give an error that names the fix."""
    target = tmp_path / "out.mkv"
    models = srsdk.Upscaler("gan_x2.int8"), srsdk.Upscaler("gan_x2", precision="fp32")
    with models[0] as up, models[1] as other:
        with pytest.raises(KeyboardInterrupt):
            transcode.upscale(up, source, target, progress=stop_after(9))
        with pytest.raises(srsdk.UsageError, match="resume=True"):
            transcode.upscale(up, source, target)
        with pytest.raises(srsdk.UsageError, match="made with model"):
            transcode.upscale(other, source, target, resume=True)
        with pytest.raises(srsdk.UsageError, match="made with encoding"):
            transcode.upscale(up, source, target, resume=True, crf=30)
        os.utime(source, ns=(0, 0))
        with pytest.raises(srsdk.UsageError, match="made with changed_ns"):
            transcode.upscale(up, source, target, resume=True)
        assert transcode.upscale(up, source, target, overwrite=True).computed == FRAMES


SLOW_RUN = """
import sys, time
from srsdk.cli.main import main
from srsdk.video import parts, pipeline
parts.PART_FRAMES = 8
encode = pipeline.Pipeline._encode
def slowly(*arguments):
    time.sleep(0.05)
    encode(*arguments)
pipeline.Pipeline._encode = slowly
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("with_signal", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_signals(
    source: Path,
    undisturbed: list[tuple[float, bytes]],
    tmp_path: Path,
    with_signal: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After Ctrl-C the partial file plays; after any signal `--resume` works."""
    target = tmp_path / "out.mkv"
    call = ["video", str(source), str(target), "--model", "gan_x2"]
    call += ["--threads", "1", "--codec", "ffv1"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN, *call], stderr=subprocess.PIPE, text=True
    )
    folder = tmp_path / ".out.mkv.parts"
    for _ in range(1200):
        if (folder / "000001.nut").exists():
            break
        time.sleep(0.05)
    process.send_signal(getattr(signal, with_signal))
    _, error = process.communicate(timeout=300)
    assert not target.exists()
    if with_signal == "SIGKILL":
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "out.partial.mkv").exists()
    else:
        assert process.returncode == {"SIGTERM": 143}.get(with_signal, 130)
        assert "out.partial.mkv holds the finished part; --resume continues the run" in error
        assert len(clips.times(tmp_path / "out.partial.mkv")) >= 16
        first = clips.pictures(tmp_path / "out.partial.mkv")[:16]
        np.testing.assert_array_equal(first, clips.pictures(tmp_path / "whole.mkv")[:16])
    assert main([*call, "--resume"]) == 0
    assert f"wrote {target}: {FRAMES} frames" in capsys.readouterr().err
    assert clips.packets(target, "video") == undisturbed
    assert not folder.exists()


def test_the_command_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Options reach the encoder; failures print one line and exit with 1."""
    target = tmp_path / "out.mkv"
    call = ["video", str(source), str(target), "--scale", "2", "--codec", "libx265", "--crf", "30"]
    assert main([*call, "--preset", "ultrafast"]) == 0
    assert f"wrote {target}: {FRAMES} frames, 0 of them repeated" in capsys.readouterr().err
    assert main(call) == 1
    assert "exists; --force" in capsys.readouterr().err
    assert main(["video", str(tmp_path / "gone.mkv"), str(tmp_path / "a.mkv")]) == 1
    assert capsys.readouterr().err == f"srsdk: {tmp_path / 'gone.mkv'}: no such file\n"


@pytest.mark.parametrize(
    ("options", "model"),
    [
        ([], "realtime_x2 AUTO (openvino); sharper and slower: --quality balanced or best"),
        (["--scale", "2", "--precision", "fp32"], "realtime_x2 fp32 (openvino); sharper"),
        (["--quality", "balanced"], "gan_x2 AUTO (openvino)\n"),
        (["--quality", "best", "--scale", "2"], "gan_x2_quality AUTO (openvino)\n"),
        (["--scale", "4"], "realtime_x4 AUTO (openvino); sharper and slower: --quality"),
        (["--scale", "4", "--quality", "balanced"], "gan_x4 AUTO (openvino)\n"),
        (["--model", "gan_x2"], "gan_x2 AUTO (openvino)\n"),
    ],
)
def test_the_model_is_chosen_by_quality(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], model: str
) -> None:
    """Without options, the model for real time, and the first line says so."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=2, sound=False))
    call = ["video", str(source), str(tmp_path / "out.mkv"), "--backend", "openvino", *options]
    assert main(call) == 0
    # `auto` takes INT8 where it is faster
    auto = "int8" if "avx2" in processor().instruction_sets else "fp32"
    assert f"out.mkv with {model.replace('AUTO', auto)}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quality", "best", "--model", "gan_x2"], "--model cannot be combined with --quality"),
        (["--quality", "best", "--kind", "photo"], "--kind cannot be combined with --quality"),
    ],
)
def test_a_quality_that_there_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    """The error says what can be chosen, before the video is read."""
    assert main(["video", "in.mkv", str(tmp_path / "out.mkv"), *options]) == 2
    assert message in capsys.readouterr().err
