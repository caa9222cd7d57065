"""Test `srsdk doctor`: what works here, and the command that fixes the rest."""

from __future__ import annotations

import json

import pytest

from srsdk.cli.main import main


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    """Both backends ran the shipped models; a GPU line is always there."""
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for line in (
        "[ok] backend openvino",
        "[ok] backend onnxruntime",
        ", gan_x4, gan_x4.int8 on cpu",
        "library pillow-heif: ",
        "library fastapi: ",
    ):
        assert line in text
    assert main(["doctor", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert {"gpu", "models", "python"} <= {check["name"] for check in checks}


def test_doctor_says_what_a_backend_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backend that opens only some files works, and the others are named; with none it fails."""
    asked: list[str] = []

    def refusal(model: str, backend: str) -> str:
        asked.append(model)
        return "no such layer" if backend == "onnxruntime" or model.endswith("int8") else ""

    monkeypatch.setattr("srsdk.doctor._refusal", refusal)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert (
        " on cpu; refuses gan_x2.int8, gan_x4.int8, which 'auto' opens with another backend" in text
    )
    assert "[--] backend onnxruntime: " in text
    assert "fails: no such layer" in text
    assert {"gan_x4", "gan_x4.int8"} <= set(asked)


def test_doctor_names_the_command_that_fixes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a backend the exit code is 1 and the message names the extra to install."""
    monkeypatch.setattr("srsdk.doctor.installed", lambda _: False)
    assert main(["doctor"]) == 1
    assert "-> pip install 'srsdk[cpu]'" in capsys.readouterr().out
