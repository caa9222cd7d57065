"""Test `srsdk verify`: the hash of a model file against the expected one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from srsdk.cli.main import main
from srsdk.models import find


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
