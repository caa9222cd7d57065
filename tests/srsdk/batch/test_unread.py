"""Test what is said about the files of a folder that are not upscaled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from srsdk.batch import jobs, unread
from srsdk.cli.main import main
from srsdk.image import plugins
from srsdk.ray import cluster, planning
from tests.srsdk.batch.pictures import fill, tree


@pytest.fixture
def _no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that no reader of HEIC and JPEG XL is installed."""
    monkeypatch.setattr(plugins.Plugin, "library", None)


@pytest.mark.usefixtures("_no_plugins")
def test_pictures_that_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counted by suffix, with what to do, other files apart; `--strict` exits with 1."""
    fill(tmp_path / "in", "a.png", "b.png")
    for name in (
        "1.heic",
        "2.HEIC",
        "b/3.heif",
        "4.cr2",
        "5.svg",
        "6.jxl",
        "notes.txt",
        "film.mp4",
        "x",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    call = ["upscale", str(tmp_path / "in"), "-r", "-o", str(tmp_path / "out"), "--scale", "2"]
    assert main(call) == 0
    assert capsys.readouterr().err.splitlines() == [
        "srsdk: 1 .cr2 file not read: camera raw: develop it to TIFF or PNG first",
        'srsdk: 2 .heic files not read: pip install "srsdk[heif]" reads them',
        'srsdk: 1 .heif file not read: pip install "srsdk[heif]" reads them',
        'srsdk: 1 .jxl file not read: pip install "srsdk[jxl]" reads them',
        "srsdk: 1 .svg file not read: vector graphics: render it at the size you want",
        "srsdk: 3 other files ignored (no suffix, .mp4, .txt); `srsdk video` takes videos",
        "srsdk: 2 done, 0 failed",
    ]
    assert tree(tmp_path / "out") == ["a.png", "b.png"]
    assert main([*call, "--strict"]) == 1


def test_strict_without_pictures_that_are_not_read(tmp_path: Path) -> None:
    """Files that are no pictures are no failure."""
    fill(tmp_path / "in", "a.png")
    (tmp_path / "in" / "notes.txt").touch()
    call = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--scale", "2"]
    assert main([*call, "--strict"]) == 0


@pytest.mark.usefixtures("_no_plugins")
def test_a_folder_of_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that says why, and no output folder."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.heic").touch()
    assert main(["upscale", str(tmp_path / "in")]) == 1
    error = capsys.readouterr().err
    assert "no pictures in this folder" in error
    assert 'pip install "srsdk[heif]"' in error
    assert not (tmp_path / "in_x4").exists()


def test_other_files_are_named_briefly() -> None:
    """At most six suffixes; a single file is singular."""
    assert unread.other_files(Counter()) == ""
    assert unread.other_files(Counter({".txt": 1})) == "1 other file ignored (.txt)"
    many = Counter({f".{letter}": 1 for letter in "abcdefgh"})
    assert unread.other_files(many) == "8 other files ignored (.a, .b, .c, .d, .e, .f, ...)"


def test_hidden_files_are_not_counted(tmp_path: Path) -> None:
    """They belong to other programs."""
    fill(tmp_path, "a.png")
    for name in (".DS_Store", ".a.heic"):
        (tmp_path / name).touch()
    assert not jobs.plan([tmp_path], tmp_path / "out").unread


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("film.mp4", "a video: `srsdk video` upscales it"),
        ("photo.CR2", "camera raw: develop it to TIFF or PNG first"),
        ("page.pdf", "a document: render it to PNG first"),
    ],
)
@pytest.mark.parametrize("output", [[], ["-o", "large.png"], ["-o", "out"]])
def test_a_file_that_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    message: str,
    output: list[str],
) -> None:
    """One line that says what to do; the thumbnail of a camera raw file is no picture."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    assert main(["upscale", name, *output]) == 1
    assert capsys.readouterr().err == f"srsdk: {name}: {message}\n"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert main(["upscale", f"no-{name}", *output]) == 1
    assert "no such file" in capsys.readouterr().err


@pytest.mark.usefixtures("_no_plugins")
def test_on_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same sentences and exit codes; no Ray is needed up to there."""
    fill(tmp_path / "in", "a.png")
    for name in ("b.heic", "notes.txt", ".hidden.heic"):
        (tmp_path / "in" / name).touch()
    rows: list[str] = []

    def run(work: planning.Plan, *_: object, **__: object) -> Iterator[dict[str, Any]]:
        rows.extend(row["target"] for row in work.rows)
        return (outcome for outcome in work.outcomes)

    monkeypatch.setattr(cluster, "run", run)
    call = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--ray"]
    assert main(call) == 0
    assert rows == ["a.png"]
    assert capsys.readouterr().err.splitlines() == [
        'srsdk: 1 .heic file not read: pip install "srsdk[heif]" reads them',
        "srsdk: 1 other file ignored (.txt)",
        "srsdk: 0 done, 0 skipped, 0 failed",
    ]
    assert main([*call, "--strict"]) == 1
    (tmp_path / "film.mp4").touch()
    assert main([call[0], str(tmp_path / "film.mp4"), *call[2:]]) == 1
    assert "film.mp4: a video: `srsdk video` upscales it" in capsys.readouterr().err
