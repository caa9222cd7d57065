"""What cannot be read costs one line and the exit code; everything else is upscaled."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from srsdk.batch import folder, jobs
from srsdk.batch.walking import Walk
from srsdk.cli.main import main
from tests.srsdk.batch.conftest import Dropped
from tests.srsdk.batch.pictures import double, fill, tree

POSIX = pytest.mark.skipif(os.name != "posix", reason="links, names of bytes, permissions")


def names(walk: Walk) -> list[str]:
    """Return what a walk yields, relative to its top."""
    return [path.relative_to(walk.top).as_posix() for path, _ in walk]


def test_folders_that_cannot_be_read(public_folder: Path, unprivileged: Dropped) -> None:
    """A folder without `r`, one without `x` and the files in it are counted; the rest is found."""
    fill(public_folder / "in", "a/1.png", "b/2.png", "c/3.png", "c/d/4.png", "c/notes.txt.png")
    (public_folder / "in" / "b").chmod(0o333)
    (public_folder / "in" / "c").chmod(0o444)
    with unprivileged():
        plan = jobs.plan([public_folder / "in"], public_folder / "out", recursive=True)
    assert [job.source.name for job in plan.jobs] == ["1.png"]
    wrong = {line.split(" cannot be read: ")[0] for line in plan.problems}
    paths = ("b", "c/3.png", "c/d", "c/notes.txt.png")
    assert wrong == {str(public_folder / "in" / path) for path in paths}
    assert all(line.endswith("Permission denied") for line in plan.problems)


def test_a_top_folder_that_cannot_be_read(public_folder: Path, unprivileged: Dropped) -> None:
    """It is one problem, and the other sources are planned."""
    fill(public_folder, "in/1.png", "locked/2.png", "inside/deep/3.png")
    (public_folder / "locked").chmod(0o333)
    (public_folder / "inside").chmod(0o000)
    with unprivileged():
        sources = ["in", "locked", "inside/deep"]
        plan = jobs.plan([public_folder / one for one in sources], public_folder / "out")
        outcomes = list(folder.run(plan.jobs, double, threads=2, skip=True))
    assert plan.problems == [
        f"{public_folder / name} cannot be read: Permission denied"
        for name in ("locked", "inside/deep")
    ]
    assert [outcome.status for outcome in outcomes] == ["done"]


def test_the_run_goes_on_and_fails(
    public_folder: Path, unprivileged: Dropped, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unreadable subfolder: one line, counted in the summary, exit code 1."""
    fill(public_folder / "in", "a/1.png", "b/2.png")
    call = ["upscale", str(public_folder / "in"), "-r", "--scale", "2", "-o"]
    # once before: the other user may not be allowed to read this Python's libraries
    assert main([*call, str(public_folder / "before")]) == 0
    (public_folder / "in" / "b").chmod(0)
    capsys.readouterr()
    with unprivileged():
        assert main([*call, str(public_folder / "out")]) == 1
    error = capsys.readouterr().err.splitlines()
    assert error[-1] == "srsdk: 1 done, 1 failed"
    assert error[0] == f"srsdk: {public_folder / 'in' / 'b'} cannot be read: Permission denied"
    assert len(error) == 2
    assert tree(public_folder / "out") == ["a/1.png"]


@POSIX
def test_links(tmp_path: Path) -> None:
    """Circles end; linked folders and dangling links are named but do not count as failed."""
    top = tmp_path / "in"
    fill(top, "a.png", "sub/b.png")
    (top / "sub" / "up").symlink_to(top)
    (top / "gone.png").symlink_to(tmp_path / "none.png")
    (top / "self.png").symlink_to(top / "self.png")
    (top / "self").symlink_to(top / "self")
    (top / "linked.png").symlink_to(top / "sub" / "b.png")
    walk = Walk(top, lambda name: name.endswith(".png"), recursive=True)
    assert names(walk) == ["a.png", "linked.png", "sub/b.png"]
    assert list(walk.problems) == [top / "self.png"]
    assert sorted(note.partition(" is ")[0] for note in walk.notes) == [
        str(top / "gone.png"),
        str(top / "sub" / "up"),
    ]


@POSIX
def test_a_source_that_links_to_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line and exit code 1; `Path.resolve` raised a RuntimeError."""
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")
    assert main(["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["compare", str(tmp_path / "a.png"), str(tmp_path), "-o", "x.html"]) == 1


@POSIX
def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    """Folders and files with such names are found and upscaled like the others."""
    odd = os.fsdecode(b"\xff\xfe")
    try:
        fill(tmp_path / "in", f"{odd}/{odd}.png", "z.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    plan = jobs.plan([tmp_path / "in"], tmp_path / "out", recursive=True, compare=True)
    outcomes = list(folder.run(plan.jobs, double, threads=1, skip=True))
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    assert len(tree(tmp_path / "out")) == 2


def test_a_folder_that_disappears(tmp_path: Path) -> None:
    """Removed while its neighbor is read: counted, and the walk goes on."""
    fill(tmp_path, "a/1.png", "b/2.png", "b/c/3.png", "d/4.png")
    walk, found = Walk(tmp_path, lambda _: True, recursive=True), []
    for path, _ in walk:
        found.append(path.name)
        if path.name == "1.png":
            shutil.rmtree(tmp_path / "b")
    assert found == ["1.png", "4.png"]
    assert list(walk.problems) == [tmp_path / "b"]


@pytest.fixture
def deep() -> Iterator[Path]:
    """A picture below 1,050 folders, more than Python nests calls."""
    if os.name != "posix":
        pytest.skip("paths are shorter on Windows")
    # not below pytest's folder, which a killed test would leave impossible to delete
    top = Path(tempfile.mkdtemp(prefix="srsdk-deep-"))
    folders = [top / "/".join("d" * depth) for depth in range(1, 1051)]
    for folder_ in folders:
        folder_.mkdir()
    fill(folders[-1], "a.png")
    yield folders[-1] / "a.png"
    (folders[-1] / "a.png").unlink()
    # `shutil.rmtree`, and so pytest, nests calls
    for folder_ in (*reversed(folders), top):
        folder_.rmdir()


def test_folders_nested_deeply(deep: Path) -> None:
    """They are walked to the end; `os.walk` raised a RecursionError."""
    walk = Walk(deep.parents[1050], lambda name: name.endswith(".png"), recursive=True)
    assert [path for path, _ in walk] == [deep]
    assert walk.problems == {}


def test_target_folders_without_rights(public_folder: Path, unprivileged: Dropped) -> None:
    """A folder without `w`, one without `x`, a file in its place: each costs its own pictures."""
    fill(public_folder / "in", "a/1.png", "b/2.png", "c/3.png", "d/4.png", "e/5.png")
    out = public_folder / "out"
    for name in "abde":
        (out / name).mkdir(parents=True)
        (out / name).chmod(0o777)
    (out / "c").write_bytes(b"a file")
    (out / "b").chmod(0o555)
    (out / "d").chmod(0o666)
    with unprivileged():
        plan = jobs.plan([public_folder / "in"], out, recursive=True, compare=True)
        outcomes = list(folder.run(plan.jobs, double, threads=2, skip=True))
    status = [outcome.status for outcome in outcomes]
    assert status == ["done", "failed", "failed", "failed", "done"]
    assert all(str(out) in outcome.error for outcome in outcomes if outcome.error)
    (out / "d").chmod(0o777)
    assert tree(out) == ["a/1.png", "c", "e/5.png"]


def test_a_target_folder_that_cannot_be_listed(public_folder: Path, unprivileged: Dropped) -> None:
    """A folder that one may write to but not read takes results."""
    fill(public_folder / "in", "1.png")
    (public_folder / "out").mkdir()
    (public_folder / "out").chmod(0o333)
    with unprivileged():
        plan = jobs.plan([public_folder / "in"], public_folder / "out")
        outcomes = list(folder.run(plan.jobs, double, threads=1, skip=True))
    assert [outcome.status for outcome in outcomes] == ["done"]
    (public_folder / "out").chmod(0o777)
    assert tree(public_folder / "out") == ["1.png"]
