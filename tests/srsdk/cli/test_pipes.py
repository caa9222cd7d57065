"""Test `-`: a picture from standard input or to standard output, with real pipes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srsdk.cli.main import main
from tests.srsdk.batch.pictures import lines


def piped(
    *arguments: str, data: bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `srsdk upscale` with data on its standard input."""
    call = [sys.executable, "-m", "srsdk", "upscale", *arguments, "--scale", "2"]
    return subprocess.run(call, input=data, capture_output=True, cwd=cwd, timeout=120)


def test_a_filter(photo: Path, tmp_path: Path) -> None:
    """`srsdk upscale - -o -` writes PNG, the same pixels as by file, and nothing else."""
    assert main(["upscale", str(photo), "-o", str(tmp_path / "by_file.png"), "--scale", "2"]) == 0
    with Image.open(tmp_path / "by_file.png") as image:
        expected = np.asarray(image)
    for more in (["-o", "-"], []):
        done = piped("-", *more, data=photo.read_bytes())
        assert (done.returncode, done.stderr) == (0, b"")
        with Image.open(io.BytesIO(done.stdout)) as image:
            assert image.format == "PNG"
            np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.parametrize(
    ("name", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP"), ("avif", "AVIF"), ("tiff", "TIFF")]
)
def test_the_format_of_the_output(photo: Path, name: str, kind: str) -> None:
    """`--format` names it, from a pipe as from a file."""
    for source, data in (("-", photo.read_bytes()), (str(photo), b"")):
        done = piped(source, "-o", "-", "--format", name, data=data)
        with Image.open(io.BytesIO(done.stdout)) as image:
            assert (image.format, image.size) == (kind, (60, 40))


def test_from_a_pipe_into_a_file(photo: Path, tmp_path: Path) -> None:
    """The file's suffix names the format; an existing file is kept."""
    target = tmp_path / "out.webp"
    report = tmp_path / "report.jsonl"
    call = ("-", "-o", str(target), "--report", str(report))
    done = piped(*call, data=photo.read_bytes())
    assert (done.returncode, done.stderr.decode()) == (0, f"srsdk: wrote {target}{os.linesep}")
    with Image.open(target) as image:
        assert (image.format, image.size) == ("WEBP", (60, 40))
    done = piped(*call, data=photo.read_bytes())
    assert (done.returncode, b"--force" in done.stderr) == (1, True)
    rows = lines(report)
    assert [row["status"] for row in rows] == ["done", "failed"]
    assert {row["source"] for row in rows} == {"-"}
    assert "--force" in rows[1]["error"]


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_no_picture_in_the_pipe(data: bytes) -> None:
    """One line, exit code 1, and not a byte on standard output."""
    done = piped("-", data=data)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "-", "-o", "-"], "- is one picture"),
        ([".", "-o", "-"], "- is one picture"),
        (["-", "-o", "out"], "has no name, expected a file: -o out"),
        (["-", "-o", "out.heic"], ".heic is not a format"),
        (["-", "-o", "a.png", "--compare"], "--compare needs files"),
        (["-", "-o", "-", "--ray"], "--ray reads and writes folders"),
    ],
)
def test_what_a_pipe_cannot_be(tmp_path: Path, arguments: list[str], message: str) -> None:
    """Several pictures, a folder, a comparison: exit code 2 before anything is read or written."""
    done = piped(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert message in done.stderr.decode()
    assert not list(tmp_path.iterdir())


def test_a_file_named_like_a_pipe(photo: Path, tmp_path: Path) -> None:
    """`./-` is a file."""
    (tmp_path / "-").write_bytes(photo.read_bytes())
    assert piped("./-", "-o", "a.png", cwd=tmp_path).returncode == 0
    assert (tmp_path / "a.png").exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX terminals")
@pytest.mark.parametrize("arguments", [["IN", "-o", "-"], ["-"]])
def test_terminals_are_no_pictures(photo: Path, arguments: list[str]) -> None:
    """Neither is a picture written onto a terminal, nor one read from it."""
    import pty

    ours, theirs = pty.openpty()
    words = [str(photo) if word == "IN" else word for word in arguments]
    call = [sys.executable, "-m", "srsdk", "upscale", *words]
    done = subprocess.run(call, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, timeout=120)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert b"is a terminal" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_reader_that_leaves(photo: Path) -> None:
    """`| head -c 4` is no traceback."""
    call = [sys.executable, "-m", "srsdk", "upscale", str(photo), "-o", "-"]
    reader, writer = os.pipe()
    os.close(reader)  # before the start: a small picture would fit into the pipe
    done = subprocess.run(call, stdout=writer, stderr=subprocess.PIPE, timeout=120)
    os.close(writer)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") <= 1
