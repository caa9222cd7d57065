"""No file of a run is written twice, and none of the user's files is replaced or appended to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import srsdk
from srsdk.batch import jobs
from srsdk.cli.main import main
from tests.srsdk.batch.pictures import fill, lines, tree

POSIX = pytest.mark.skipif(os.name != "posix", reason="links")


def content(root: Path) -> dict[str, bytes]:
    """Return all files below a folder with their bytes."""
    return {name: (root / name).read_bytes() for name in tree(root)}


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_comparison_is_not_also_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], force: tuple[str, ...]
) -> None:
    """`a_compare.png` as a source: the error names both uses, before any file is written."""
    fill(tmp_path / "in", "a.png", "a_compare.png")
    call = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--compare", *force]
    assert main(call) == 2
    error = capsys.readouterr().err
    assert "a_compare.png would be both the result of" in error
    assert "and the comparison of" in error
    assert "leave out --compare" in error
    assert not (tmp_path / "out").exists()


def test_results_with_one_stem_have_two_comparisons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`a.png` and `a.jpg` keep their suffixes; a stem that is alone has the short name."""
    fill(tmp_path / "in", "a.png", "a.jpg", "b.png")
    call = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--scale", "2"]
    assert main([*call, "--compare"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "srsdk: 3 done, 0 failed"
    comparisons = ["a.jpg_compare.png", "a.png_compare.png", "b_compare.png"]
    assert tree(tmp_path / "out") == sorted(["a.jpg", "a.png", "b.png", *comparisons])


def test_stems_are_compared_without_case(tmp_path: Path) -> None:
    """`A.png` and `a.jpg` have one comparison where case is ignored, so both keep the suffix."""
    planned = jobs.with_comparisons(
        [jobs.Job(tmp_path / name, tmp_path / "out" / name) for name in ("A.png", "a.jpg")]
    )
    names = [job.comparison.name for job in planned if job.comparison]
    assert names == ["A.png_compare.png", "a.jpg_compare.png"]


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ("in/a.png", "is both a source and the report"),
        ("out/a.png", "would be both the result of"),
        ("out/a_compare.png", "would be both the comparison of"),
    ],
)
def test_a_report_is_no_picture_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], report: str, message: str
) -> None:
    """A report that is a source, a result or a comparison is refused, and nothing is written."""
    fill(tmp_path / "in", "a.png", "b.png")
    (tmp_path / "in" / "a.png").write_bytes(b"")  # as empty as a new report
    before = content(tmp_path)
    call = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--compare", "--force"]
    assert main([*call, "--report", str(tmp_path / report)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "choose another --report" in error
    assert content(tmp_path) == before


@POSIX
def test_two_paths_of_one_file(tmp_path: Path) -> None:
    """Folders are compared where their links lead, and a report where its own link leads."""
    fill(tmp_path, "one/x/a.png", "two/y/a.png")
    out = tmp_path / "out"
    (out / "y").mkdir(parents=True)
    (out / "x").symlink_to(out / "y")
    with pytest.raises(srsdk.UsageError, match="would both be written to"):
        jobs.plan([tmp_path / "one", tmp_path / "two"], out, recursive=True)
    (tmp_path / "report.jsonl").symlink_to(out / "y" / "a.png")
    with pytest.raises(srsdk.UsageError, match="and the report; choose another report="):
        jobs.plan([tmp_path / "two"], out, recursive=True, report=tmp_path / "report.jsonl")
    (tmp_path / "again").symlink_to(tmp_path / "one" / "x")
    with pytest.raises(srsdk.UsageError, match="replaced by its own result"):
        jobs.plan([tmp_path / "one" / "x" / "a.png"], tmp_path / "again")


@POSIX
def test_links_that_share_a_file_are_two_results(tmp_path: Path) -> None:
    """A result replaces a link and not what it leads to, so that two may lead to one file."""
    fill(tmp_path / "in", "a.png", "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "store").write_bytes(b"shared")
    for name in ("a.png", "b.png"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "store")
    assert len(jobs.plan([tmp_path / "in"], tmp_path / "out").jobs) == 2


def test_a_result_is_no_other_picture_s_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A comparison or result that lands on another source is refused, with `--force` too."""
    fill(tmp_path, "in/a.png", "out/a_compare.png", "elsewhere/out/b.png", "out/b.png")
    sources = [str(tmp_path / "in"), str(tmp_path / "out" / "a_compare.png")]
    before = content(tmp_path)
    call = ["upscale", *sources, "-o", str(tmp_path / "out"), "--force"]
    assert main([*call, "--compare"]) == 2
    assert main(call) == 2
    one, two = tmp_path / "elsewhere" / "out" / "b.png", tmp_path / "out" / "b.png"
    both = [jobs.Job(one, two), jobs.Job(two, tmp_path / "c.png")]
    with pytest.raises(srsdk.UsageError, match=r"replaced by the result of .*elsewhere"):
        jobs.check_collisions(both)
    assert "would be replaced by its own result" in capsys.readouterr().err
    assert content(tmp_path) == before


def test_case_counts_only_where_the_system_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparisons, reports and sources whose names differ in case collide where it is ignored."""
    monkeypatch.setattr(jobs, "ignores_case", lambda _: True)
    one = jobs.Job(tmp_path / "a.png", tmp_path / "out" / "a.png", tmp_path / "out" / "a_C.png")
    other = jobs.Job(tmp_path / "A_c.png", tmp_path / "out" / "A_c.png")
    with pytest.raises(srsdk.UsageError, match="the file system ignores case; rename a source"):
        jobs.check_collisions([one, other])
    with pytest.raises(srsdk.UsageError, match="ignores case; choose another report="):
        jobs.check_collisions([one], tmp_path / "out" / "A.PNG")
    with pytest.raises(srsdk.UsageError, match="replaced by the result"):
        jobs.check_collisions([one, jobs.Job(tmp_path / "out" / "A.png", tmp_path / "x.png")])


def test_an_existing_comparison_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--force` the picture fails before it is upscaled, and the file is untouched."""
    fill(tmp_path / "in", "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_compare.png").write_bytes(b"precious")
    call = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--compare"]
    assert main(call) == 1
    assert "a_compare.png exists; --force" in capsys.readouterr().err
    assert content(tmp_path / "out") == {"a_compare.png": b"precious"}
    assert main([*call, "--force"]) == 0
    assert tree(tmp_path / "out") == ["a.png", "a_compare.png"]


def test_a_picture_that_cannot_be_compared_is_not_upscaled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many pixels or too little memory for the comparison is found before the result."""
    from PIL import Image

    fill(tmp_path / "in", "a.png")
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "in" / "b.gif", save_all=True, append_images=frames[1:])
    call = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--compare"]
    report = tmp_path / "report.jsonl"
    assert main([*call, "--max-memory", "20000", "--report", str(report)]) == 1
    capsys.readouterr()
    assert ["needs 25,600 bytes" in line["error"] for line in lines(report)] == [True, False]
    assert "got 2 frames" in lines(report)[1]["error"]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 320)  # twice this: half of the result
    assert main(call) == 1
    assert "the result has 1,280 pixels, at most 640 can be compared" in capsys.readouterr().err
    assert tree(tmp_path / "out") == []
