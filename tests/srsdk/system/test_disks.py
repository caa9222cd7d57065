"""Full or read-only disks: one error line, no partial file, nothing left over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srsdk.cli.main import main
from tests.disks import make_read_only, small_disk
from tests.srsdk.video import clips


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A folder of two pictures whose results take over 100 KB each."""
    folder = tmp_path / "in"
    folder.mkdir()
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 255, (120, 160, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


def files(folder: Path) -> list[str]:
    """Return all files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "jpg", "gif"])
def test_a_picture_on_a_full_disk(
    noise: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error of each encoder is translated."""
    with small_disk(tmp_path / "disk", "16k") as disk:
        target = disk / f"out.{suffix}"
        assert main(["upscale", str(noise / "0.png"), "-o", str(target), "--scale", "2"]) == 1
        error = capsys.readouterr().err
        assert f"{target} cannot be written" in error
        assert error.count("\n") == 1
        assert files(disk) == []


def test_a_folder_on_a_full_disk(
    noise: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line per picture; the report, on another disk, contains the errors too."""
    with small_disk(tmp_path / "disk") as disk:
        report = tmp_path / "report.jsonl"
        call = ["upscale", str(noise), "-o", str(disk / "out"), "--report", str(report)]
        assert main(call) == 1
        assert "0 done, 2 failed" in capsys.readouterr().err
        assert files(disk) == []
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [line["status"] for line in lines] == ["failed", "failed"]
    assert all("No space left" in line["error"] for line in lines)


def test_a_report_and_an_output_stream_on_a_full_disk(noise: Path, tmp_path: Path) -> None:
    """Unwritable output gives one error line and exit code 1, no traceback."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    call = [sys.executable, "-m", "srsdk"]
    work = ["upscale", str(noise), "-o", str(tmp_path / "out"), "--scale", "2"]
    done = subprocess.run([*call, *work, "--report", "/dev/full"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "/dev/full cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    for arguments in (["info", "gan_x2"], ["info", "gan_x2", "--json"], ["doctor"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*call, *arguments], stdout=full, stderr=-1, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert "No space left on device" in done.stderr


def test_a_video_on_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file appears under the target's name; finished parts stay for `--resume`."""
    source = clips.make(tmp_path / "in.mkv", clips.Clip(frames=24))
    with small_disk(tmp_path / "disk") as disk:
        target = disk / "out.mkv"
        call = ["video", str(source), str(target), "--scale", "2", "--codec", "ffv1"]
        assert main(call) == 1
        assert "cannot be written" in capsys.readouterr().err
        assert not target.exists()
        assert not list(disk.glob("*.mkv"))


def test_read_only(noise: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read-only targets are rejected before any work: pictures, folders, pages, videos, reports."""
    source = clips.make(tmp_path / "in.mkv", clips.Clip(frames=2))
    with small_disk(tmp_path / "disk", "2m") as disk:
        (disk / "in").mkdir()
        for path in noise.iterdir():
            (disk / "in" / path.name).write_bytes(path.read_bytes())
        make_read_only(disk)
        picture, there = str(noise / "0.png"), str(disk / "in" / "0.png")
        for call in (
            ["upscale", picture, "-o", str(disk / "out.png")],
            ["upscale", str(noise), "-o", str(disk / "out")],
            ["upscale", picture, "-o", str(disk / "in"), "--force"],
            ["upscale", picture, "-o", str(tmp_path / "a.png"), "--report", str(disk / "r")],
            ["compare", picture, there, "-o", str(disk / "page.html")],
            ["video", str(source), str(disk / "out.mkv"), "--scale", "2"],
        ):
            assert main(call) == 1, call
            error = capsys.readouterr().err
            assert str(disk) in error
            assert "Traceback" not in error
        # reading from it works
        assert main(["upscale", there, "-o", str(tmp_path / "fine.png"), "--scale", "2"]) == 0
