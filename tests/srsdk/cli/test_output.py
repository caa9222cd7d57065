"""Test where results go: beside the source by default, with a suffix that can be written."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from PIL import Image

from srsdk.cli.main import main
from tests import networks
from tests.conftest import make_picture


def save(path: Path) -> Path:
    """Write a small picture."""
    Image.fromarray(make_picture(8, 10)).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "options", "result"),
    [
        ("a.png", [], "a_x4.png"),
        ("a.jpg", [], "a_x4.jpg"),
        ("a.JPEG", ["--scale", "2"], "a_x2.JPEG"),
        ("a.webp", ["--scale", "2.5"], "a_x2.5.webp"),
        ("a.tif", ["--scale", "0.5"], "a_x0.5.tif"),
        ("a.gif", ["--model", "gan_x2"], "a_x2.gif"),
        ("a.avif", ["--model", "realtime_x2"], "a_x2.avif"),
        ("a.png", ["--kind", "compressed"], "a_x4.png"),
        ("a.png", ["--denoise", "--scale", "2"], "a_x2.png"),
        ("a.png", ["--width", "30"], "a_w30.png"),
        ("a.png", ["--height", "30"], "a_h30.png"),
        ("a.png", ["--height", "30", "--width", "20"], "a_20x30.png"),
        ("a.png", ["--format", "webp"], "a_x4.webp"),
        ("a.b.png", [], "a.b_x4.png"),
        # rarely written, or not at all
        ("a.ico", [], "a_x4.png"),
        ("a.sgi", [], "a_x4.png"),
    ],
)
def test_beside_the_source(tmp_path: Path, name: str, options: list[str], result: str) -> None:
    """The scale that was asked for is in the name, and the format is that of the source."""
    save(tmp_path / name)
    assert main(["upscale", str(tmp_path / name), *options]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((name, result))
    with Image.open(tmp_path / result) as image:
        image.load()


def test_an_mpo_file_gives_a_jpeg_file(tmp_path: Path) -> None:
    """Cameras write MPO: a JPEG file with previews, which no result has."""
    image = Image.fromarray(make_picture(8, 10))
    image.save(tmp_path / "a.mpo", save_all=True, append_images=[image])
    assert main(["upscale", str(tmp_path / "a.mpo"), "--scale", "2"]) == 0
    with Image.open(tmp_path / "a_x2.jpg") as result:
        assert (result.format, result.size) == ("JPEG", (20, 16))


def test_never_over_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One picture: an error; several: what exists is skipped. `--force` replaces it."""
    for name in ("a.png", "b.png"):
        save(tmp_path / name)
    old = tmp_path / "a_x2.png"
    old.write_bytes(b"precious")
    a, b = str(tmp_path / "a.png"), str(tmp_path / "b.png")
    assert main(["upscale", a, "--scale", "2"]) == 1
    assert capsys.readouterr().err == f"srsdk: {old} exists; --force replaces it\n"
    assert main(["upscale", a, b, "--scale", "2"]) == 0
    assert capsys.readouterr().err == "srsdk: 1 done, 1 skipped, 0 failed\n"
    assert old.read_bytes() == b"precious"
    assert main(["upscale", a, b, "--scale", "2", "--force"]) == 0
    assert old.read_bytes() != b"precious"


def test_a_folder_beside_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`photos` gives `photos_x2`, also as `.`; files and folders can be mixed."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    save(folder / "a.png")
    save(folder / "sub" / "b.jpg")
    save(tmp_path / "c.png")
    call = ["upscale", str(folder), str(tmp_path / "c.png"), "-r", "--scale", "2"]
    assert main(call) == 0
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*_x2*/**/*.*")}
    assert found == {os.path.join("photos_x2", "a.png"), os.path.join("photos_x2", "sub", "b.jpg")}
    assert (tmp_path / "c_x2.png").exists()
    shutil.rmtree(tmp_path / "photos_x2")
    monkeypatch.chdir(folder)
    assert main(["upscale", ".", "--scale", "2"]) == 0
    assert [path.name for path in (tmp_path / "photos_x2").iterdir()] == ["a.png"]


def test_the_format_of_a_folder(tmp_path: Path) -> None:
    """`--format` converts all results, also into a named folder."""
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.jpg"):
        save(tmp_path / "in" / name)
    out = tmp_path / "out"
    call = ["upscale", str(tmp_path / "in"), "-o", str(out), "--scale", "2"]
    assert main([*call, "--format", "webp"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.webp", "b.webp"]
    for path in out.iterdir():
        with Image.open(path) as image:
            assert image.format == "WEBP"


@pytest.mark.parametrize("name", ["x.heic", "x.mp4", "x.JXL", "x.docx", "x.v2"])
def test_an_unknown_ending_is_an_error(
    photo: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is created; a folder that has such a name may be used."""
    out = tmp_path / name
    assert main(["upscale", str(photo), "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"{out.suffix} is not a format that srsdk writes, use .png" in error
    assert not out.exists()
    out.mkdir()
    assert main(["upscale", str(photo), "-o", str(out), "--scale", "2"]) == 0
    assert (out / "photo.png").exists()


@pytest.mark.parametrize("name", ["plain", "out_x2.5", ".hidden"])
def test_a_name_without_an_ending_is_a_folder(photo: Path, tmp_path: Path, name: str) -> None:
    """A number behind a dot is no ending."""
    assert main(["upscale", str(photo), "-o", str(tmp_path / name), "--scale", "2"]) == 0
    assert (tmp_path / name / "photo.png").exists()


def test_a_format_that_contradicts_the_name(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two formats for one file are an error; the same one by another name is none."""
    call = ["upscale", str(photo), "--scale", "2", "-o", str(tmp_path / "a.jpg"), "--format"]
    assert main([*call, "png"]) == 2
    assert "--format png contradicts -o" in capsys.readouterr().err
    assert main([*call, "jpeg"]) == 0


def test_a_model_that_does_not_state_its_scale(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A foreign file's scale is known when it is open; until then the name has none."""
    model = networks.nearest(tmp_path / "toy.onnx", scale=2)
    assert main(["upscale", str(photo), "--model", str(model)]) == 2
    assert "name the output with -o" in capsys.readouterr().err
    out = str(tmp_path / "large.png")
    assert main(["upscale", str(photo), "--model", str(model), "-o", out]) == 0


@pytest.mark.skipif(os.name == "nt", reason="POSIX file modes")
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_file_modes(photo: Path, tmp_path: Path, umask: int) -> None:
    """Results, comparisons and reports get the mode of any other new file."""
    save(tmp_path / "b.tif")
    before = os.umask(umask)
    try:
        sources = [str(photo), str(tmp_path / "b.tif")]
        report = tmp_path / "report.jsonl"
        call = ["upscale", *sources, "-o", str(tmp_path / "out"), "--scale", "2"]
        assert main([*call, "--compare", "--report", str(report)]) == 0
        page = tmp_path / "page.html"
        assert main(["compare", *sources, "-o", str(page)]) == 0
    finally:
        os.umask(before)
    files = [report, page, *(tmp_path / "out").iterdir()]
    assert len(files) == 6
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask, path.name
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~umask
