"""Test the command line: exit codes, one-line messages, batches that continue after a failure."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.cli.main import main
from tests import networks
from tests.conftest import make_picture


def size(path: Path) -> tuple[int, int]:
    """Return (width, height)."""
    with Image.open(path) as image:
        return image.size


def test_one_file_to_one_file(photo: Path, tmp_path: Path) -> None:
    """The default model is gan_x4."""
    assert main(["upscale", str(photo), "-o", str(tmp_path / "large.jpg")]) == 0
    assert size(tmp_path / "large.jpg") == (120, 80)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--scale", "2"], (60, 40)),
        (["--model", "gan_x2"], (60, 40)),
        (["--scale", "4", "--tile", "24", "--backend", "onnxruntime"], (120, 80)),
        (["--model", "gan_x4", "--scale", "2.5"], (75, 50)),
        (["--scale", "8"], (240, 160)),
        (["--kind", "drawing"], (120, 80)),
        (["--kind", "compressed", "--scale", "2"], (60, 40)),
        (["--kind", "realworld", "--scale", "2"], (60, 40)),
        (["--kind", "drawing", "--scale", "6"], (180, 120)),
        (["--texture", "0.5"], (120, 80)),
        (["--scale", "1.5", "--alpha", "lanczos"], (45, 30)),
        (["--width", "50", "--height", "50"], (50, 33)),
        (["--width", "50", "--height", "50", "--fit", "cover"], (50, 50)),
        (["--max-memory", "1.5GB", "--max-pixels", "20000"], (120, 80)),
        (["--tile", "24x40", "--device", "cpu", "--threads", "1"], (120, 80)),
    ],
)
def test_options(
    photo: Path, tmp_path: Path, options: list[str], expected: tuple[int, int]
) -> None:
    """Each option sets the output size that it documents."""
    assert main(["upscale", str(photo), "-o", str(tmp_path / "out"), *options]) == 0
    assert size(tmp_path / "out" / "photo.png") == expected


def test_compressed_is_denoised_first(photo: Path, tmp_path: Path) -> None:
    """`--kind compressed` is `--denoise` before the model for photographs."""
    for name, options in (("a.png", ["--kind", "compressed"]), ("b.png", ["--denoise"])):
        assert main(["upscale", str(photo), "-o", str(tmp_path / name), *options]) == 0
    assert main(["upscale", str(photo), "-o", str(tmp_path / "c.png")]) == 0
    a, b, c = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "abc")
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_batch_goes_on_after_a_failure(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a folder, a missing file and a broken one, the good files are upscaled and counted."""
    folder = tmp_path / "many"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(make_picture(8, 8)).save(folder / name)
    (folder / "bad.png").write_text("not a picture")
    (folder / "notes.txt").write_text("ignored")
    out = tmp_path / "out"
    sources = [str(folder), str(tmp_path / "missing.png"), str(photo)]
    assert main(["upscale", *sources, "-o", str(out), "--scale", "2"]) == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "photo.png"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "srsdk: 3 done, 2 failed"
    assert sum("bad.png" in line for line in lines) == 1
    assert sum("missing.png" in line for line in lines) == 1
    assert all(line.startswith("srsdk: ") for line in lines)


def test_nothing_is_overwritten_without_force(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names --force, and --force overwrites the file."""
    target = tmp_path / "large.png"
    target.write_bytes(b"precious")
    call = ["upscale", str(photo), "-o", str(target)]
    assert main(call) == 1
    assert "--force" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert main([*call, "--force"]) == 0
    assert size(target) == (120, 80)


def test_side_by_side(photo: Path, tmp_path: Path) -> None:
    """`--compare` writes bicubic and result next to each other."""
    out = tmp_path / "out"
    assert main(["upscale", str(photo), "-o", str(out), "--compare"]) == 0
    assert size(out / "photo_compare.png") == (2 * 120 + 8, 80)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["upscale", "gone.png", "-o", "OUT"], 1, "gone.png: no such file"),
        (["upscale", "IN", "IN", "-o", "x.png"], 2, "is one file, but several"),
        (["upscale", "IN", "IN", "-o", "OUT"], 2, "would both be written to"),
        (["upscale", "IN", "-o", "."], 2, "replaced by its own result"),
        (
            ["upscale", "IN", "-o", "OUT", "--width", "9", "--scale", "2"],
            2,
            "be combined with width",
        ),
        (["upscale", "IN", "-o", "OUT", "--scale", "17"], 2, "up to 16"),
        (["upscale", "IN", "-o", "OUT", "--quality", "fine"], 2, "keep, lossless"),
        (
            ["upscale", "IN", "-o", "OUT", "--kind", "realworld", "--texture", "0.5"],
            1,
            "no textured twin",
        ),
        (
            ["upscale", "IN", "-o", "OUT", "--kind", "drawing", "--model", "gan_x4"],
            2,
            "--model cannot be combined with --kind",
        ),
        (
            ["upscale", "IN", "-o", "OUT", "--kind", "compressed", "--ray"],
            2,
            "--ray takes a --model",
        ),
        (
            ["demo", "--model", "gan_x4", "--kind", "photo"],
            2,
            "--model cannot be combined with --kind",
        ),
        (["upscale", "IN", "-o", "OUT", "--denoise", "gan_x2"], 1, "expected an x1 restoration"),
        (["upscale", "IN", "-o", "OUT", "--max-pixels", "100"], 1, "--max-pixels"),
        (["upscale", "IN", "-o", "IN/x"], 1, "cannot be created"),
        (["upscale", "EMPTY", "-o", "OUT"], 1, "no pictures in this folder"),
        (["info", "gone.onnx"], 1, "no such model file"),
    ],
)
def test_failures(
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    """Failures exit with 1 and print one line; usage errors exit with 2 and also name --help."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    names = {"IN": photo.name, "OUT": "out", "IN/x": f"{photo.name}/x", "EMPTY": "empty"}
    assert main([names.get(argument, argument) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == code
    assert ("--help`" in error) is (code == 2)


def test_nothing_to_do_makes_no_folder(tmp_path: Path) -> None:
    """A folder without pictures, or two inputs with one target, create no output folder."""
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    assert main(["upscale", str(tmp_path / "empty"), "-o", str(out)]) == 1
    assert main(["upscale", "a.png", "a.png", "-o", str(out)]) == 2
    assert not out.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_an_output_folder_that_cannot_be_written(photo: Path, tmp_path: Path) -> None:
    """Reported before any work; runs as an ordinary user because root may write anywhere."""
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    for path in (tmp_path, *tmp_path.parents):
        if path == tmp_path or path.name.startswith(("pytest-", "popen-")):
            path.chmod(0o755)
    code = (
        "import os, sys\n"
        "from srsdk.cli.main import main\n"
        # once before: the other user may not be allowed to read this Python's libraries
        f"main(['upscale', {str(photo)!r}, '-o', {str(tmp_path / 'fine')!r}])\n"
        "os.geteuid() == 0 and os.setuid(65534)\n"
        f"sys.exit(main(['upscale', {str(photo)!r}, '-o', {str(locked)!r}]))\n"
    )
    # the other user may not read this one's caches, which would be said too
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, "SRSDK_CACHE": ""},
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.endswith("is not writable\n")
    assert list(locked.iterdir()) == []


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    """The manifest is printed as a table or as JSON."""
    assert main(["info", "gan_x4"]) == 0
    text = capsys.readouterr().out
    assert "radius_px" in text
    assert "Set5" in text
    assert main(["info", "gan_x4", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["scale"] == 4
    assert values["scores"]["Set5"]["psnr_y_db"] > 31.1


def test_info_says_what_tiles_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The kind of tiling and its price by overlap are rows of the table."""
    manifest = srsdk.Manifest(
        name="toy",
        scale=1,
        channels=3,
        radius_px=16,
        tiling="bounded",
        tiling_db=MappingProxyType({"8": 40.5, "16": 48.25}),
    )
    networks.identity(tmp_path / "toy.onnx", metadata={"srsdk.manifest": manifest.to_json()})
    assert main(["info", str(tmp_path / "toy.onnx")]) == 0
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["tiling"] == "bounded"
    assert rows["tiles against the whole"] == "40.5 dB at 8 px, 48.25 dB at 16 px of overlap"


def test_info_of_a_foreign_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing metadata is inferred from the network."""
    path = networks.nearest(tmp_path / "toy.onnx", scale=3)
    assert main(["info", str(path), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["family"], values["scale"], values["layout"]) == ("foreign", 3, "NHWC")


def test_version_and_module(tmp_path: Path) -> None:
    """`python -m srsdk` is the same command."""
    call = [sys.executable, "-m", "srsdk", "--version"]
    result = subprocess.run(call, capture_output=True, text=True, check=True)
    assert result.stdout == f"srsdk {srsdk.__version__}\n"


@pytest.mark.parametrize("stopped", [True, False])
def test_ctrl_c_while_a_library_is_loaded(
    photo: Path, tmp_path: Path, repository: Path, *, stopped: bool
) -> None:
    """An ImportError caused by Ctrl-C exits with 130; any other keeps its traceback."""
    cause = " from KeyboardInterrupt()" if stopped else ""
    (tmp_path / "lib" / "onnxruntime").mkdir(parents=True)
    broken = f"raise ImportError('initialization failed'){cause}\n"
    (tmp_path / "lib" / "onnxruntime" / "__init__.py").write_text(broken)
    call = [sys.executable, "-m", "srsdk", "upscale", str(photo), "--backend", "onnxruntime"]
    done = subprocess.run(
        [*call, "-o", str(tmp_path / "out.png")],
        env=os.environ | {"PYTHONPATH": f"{tmp_path / 'lib'}{os.pathsep}{repository}"},
        capture_output=True,
        text=True,
    )
    if stopped:
        assert (done.returncode, done.stderr) == (130, "srsdk: stopped\n")
    else:
        assert done.returncode == 1
        assert "initialization failed" in done.stderr
    assert not (tmp_path / "out.png").exists()
