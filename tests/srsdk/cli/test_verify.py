"""Test `srsdk verify`: the hash of a model file against the expected one."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from srsdk.cli.main import main
from srsdk.cli.models import verify
from srsdk.models import FOLDER, find, shipped


def test_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A match exits 0 with the `sha256sum` line, a mismatch 1 with both hashes, a bad hash 2."""
    path = tmp_path / "model.onnx"
    data = find("gan_x2").read_bytes()
    path.write_bytes(data)
    right = hashlib.sha256(data).hexdigest()
    assert main(["verify", str(path), "--sha256", right.upper()]) == 0
    assert capsys.readouterr().out == f"{right}  {path}\n"
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert main(["verify", str(path), "--sha256", right]) == 1
    error = capsys.readouterr().err
    assert f"expected {right}" in error
    assert hashlib.sha256(path.read_bytes()).hexdigest() in error
    for wrong in ("", right[:-1], "g" * 64, f"{right}0"):
        assert main(["verify", str(path), "--sha256", wrong]) == 2
        assert "64 hexadecimal digits" in capsys.readouterr().err


def test_the_hash_beside_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The .sha256 file that the export writes is used; without one the command fails."""
    path = tmp_path / "model.onnx"
    path.write_bytes(find("gan_x2").read_bytes())
    assert main(["verify", str(path)]) == 2
    assert "pass it with --sha256" in capsys.readouterr().err
    note = tmp_path / "model.onnx.sha256"
    note.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  model.onnx\n")
    assert main(["verify", str(path)]) == 0
    note.write_text(f"{'0' * 64}  model.onnx\n")
    assert main(["verify", str(path)]) == 1


def test_a_file_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A matching hash is not enough: the file must be a model."""
    path = tmp_path / "text.onnx"
    path.write_bytes(b"hello")
    assert main(["verify", str(path), "--sha256", hashlib.sha256(b"hello").hexdigest()]) == 1
    assert "is not an ONNX model" in capsys.readouterr().err


def test_the_list_of_shipped_hashes() -> None:
    """It names every shipped file, sorted, with the hash that the file has."""
    known = verify.shipped_hashes(FOLDER)
    assert list(known) == sorted(f"{name}.onnx" for name in shipped())
    for name, digest in known.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest


def test_sha256sum_reads_the_list() -> None:
    """Users without srsdk can check the files, too."""
    command = shutil.which("sha256sum")
    if command is None:
        pytest.skip("needs sha256sum")
    subprocess.run([command, "-c", "--quiet", verify.SUMS], cwd=FOLDER, check=True)


def test_a_shipped_model_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """No hash has to be given."""
    assert main(["verify", "gan_x4"]) == 0
    data = find("gan_x4").read_bytes()
    assert capsys.readouterr().out == f"{hashlib.sha256(data).hexdigest()}  {find('gan_x4')}\n"


@pytest.mark.parametrize("options", [[], ["--all"]])
def test_all_shipped_models(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each file."""
    assert main(["verify", *options]) == 0
    assert capsys.readouterr().out.count(".onnx\n") == len(shipped())
    assert main(["verify", "gan_x4", "--all"]) == 2
    assert main(["verify", "--sha256", "0" * 64]) == 2


def test_a_damaged_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed file, a missing one and one too many cost one line each; the others are checked."""
    for name in ("gan_x4.onnx", "gan_x2.onnx", "realtime_x2.onnx"):
        shutil.copy(FOLDER / name, tmp_path / name)
    sums = (FOLDER / verify.SUMS).read_text().splitlines()
    listed = [
        line for line in sums if line.split("  ")[1] in ("gan_x2.onnx", "gan_x4.onnx", "ae_x1.onnx")
    ]
    (tmp_path / verify.SUMS).write_text("\n".join(listed))
    with (tmp_path / "gan_x2.onnx").open("ab") as file:
        file.write(b"x")
    monkeypatch.setattr("srsdk.models.FOLDER", tmp_path)
    assert main(["verify"]) == 1
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    errors = shown.err.splitlines()
    assert [
        text in line for text, line in zip(("ae_x1", "gan_x2", "realtime"), errors, strict=True)
    ]
    assert "cannot be read" in errors[0]
    assert "expected" in errors[1]
    assert "is not one of the models" in errors[2]
    (tmp_path / verify.SUMS).unlink()
    assert main(["verify"]) == 1
    assert "install srsdk again" in capsys.readouterr().err
