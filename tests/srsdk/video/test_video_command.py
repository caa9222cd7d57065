"""`srsdk video`: what a user sees first, and what is done without a second name."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import srsdk
from srsdk.cli.main import main
from srsdk.video import transcode
from tests.srsdk.video import clips
from tests.srsdk.video.clips import Clip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A short clip."""
    return clips.make(tmp_path / "film.mp4", Clip(frames=4, sound=False, subtitles=False))


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the message of a command that must fail."""
    assert main(["video", *arguments]) != 0
    return capsys.readouterr().err


def test_names_are_checked_before_a_model_is_opened(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The missing source comes first, then the target; neither costs seconds of opening a model."""

    def opened(*_: Any, **__: Any) -> Any:
        raise AssertionError("a model was opened")

    monkeypatch.setattr(srsdk, "Upscaler", opened)
    gone, taken = str(tmp_path / "gone.mkv"), tmp_path / "taken.mkv"
    taken.write_text("precious")
    assert "gone.mkv: no such file" in error_of(capsys, gone, str(taken))
    assert "is a folder" in error_of(capsys, str(tmp_path), str(taken))
    assert "taken.mkv exists; --force replaces it" in error_of(capsys, str(source), str(taken))
    assert "replaced by its own result" in error_of(capsys, str(source), str(source))
    assert "is not a writable folder" in error_of(capsys, str(source), f"{gone}/a.mkv")
    assert "OUT is given twice" in error_of(capsys, str(source), "a.mkv", "-o", "b.mkv")
    assert "no name to derive OUT from" in error_of(capsys, "-")


def test_the_target_is_named_after_the_source(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside it, with the scale, as .mkv; a file of that name stays; the model is said at once."""
    target = tmp_path / "film_x2.mkv"
    assert main(["video", str(source)]) == 0
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f"srsdk: {source} -> {target} with realtime_x2 ")
    assert first.endswith("; sharper and slower: --quality balanced or best")
    assert last.startswith(f"srsdk: wrote {target}: 4 frames, ")
    written = target.read_bytes()
    assert f"{target} exists; --force" in error_of(capsys, str(source))
    assert target.read_bytes() == written
    assert main(["video", str(source), "--scale", "4", "--tile", "64"]) == 0
    assert (tmp_path / "film_x4.mkv").exists()


def test_the_fast_file_is_chosen_and_said(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The precision in the first line is that of the file which is opened."""
    with srsdk.Upscaler("realtime_x2", optimize="throughput") as up:
        chosen = up.manifest.precision
    assert main(["video", str(source)]) == 0
    assert f"with realtime_x2 {chosen} (" in capsys.readouterr().err
    assert main(["video", str(source), "--force", "--precision", "fp32"]) == 0
    assert "with realtime_x2 fp32 (" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["GIF", "PNG", "WebP"])
def test_animated_pictures_are_sent_to_upscale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """Frames with transparency are refused with the line to paste, which works."""
    path = tmp_path / f"my cat.{form.lower()}"
    frames = [Image.new("RGBA", (24, 16), (9 * n, 90, 30, 255 - 60 * n)) for n in range(3)]
    frames[0].save(path, form, save_all=True, append_images=frames[1:], duration=80)
    error = error_of(capsys, str(path), "--scale", "2")
    line = f"srsdk upscale '{path}' -o '{tmp_path}/my cat_x2.{form.lower()}' --scale 2"
    assert f"is a {form} picture" in error
    assert line in error
    assert (
        main(["upscale", str(path), "-o", f"{tmp_path}/my cat_x2.{form.lower()}", "--scale", "2"])
        == 0
    )
    with pytest.raises(srsdk.PictureError, match=f"is a {form} picture"):
        transcode.check(path, tmp_path / "out.mkv")


@pytest.mark.usefixtures("plain_umask")
def test_files_have_the_mode_of_any_other(source: Path, tmp_path: Path) -> None:
    """A video, as a file that any program writes, is readable for whom the umask allows."""
    assert main(["video", str(source)]) == 0
    assert stat.S_IMODE((tmp_path / "film_x2.mkv").stat().st_mode) == 0o644


@pytest.fixture
def plain_umask() -> Any:
    """Set the umask of most systems, whatever the machine has."""
    if os.name != "posix":
        pytest.skip("modes are POSIX's")
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_help_says_what_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """The two facts that cost a second run: .mkv, and --drop."""
    with pytest.raises(SystemExit):
        main(["video", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert ".mkv holds everything" in shown
    assert "left out with --drop" in shown
    assert "IN_x2.mkv beside IN" in shown


def test_drop_is_named_by_the_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line's error names its option, and the option works."""
    source = clips.make(tmp_path / "in.mkv", Clip(frames=3, sound=False))
    target = str(tmp_path / "out.avi")
    assert "stream 1 (subtitle srt, fra); --drop leaves it out" in error_of(
        capsys, str(source), target
    )
    assert main(["video", str(source), target, "--drop"]) == 0
