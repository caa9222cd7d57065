"""Test `srsdk doctor`: what works here, and the command that fixes the rest."""

from __future__ import annotations

import json

import pytest

from srsdk import device_checks, doctor
from srsdk.cli.main import main
from srsdk.engines import openvino
from srsdk.engines.accelerators import providers
from tests.fakes.openvino_core import FakeCore


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
        "[ok] devices of openvino: cpu (",
        "[ok] openvino on cpu: fp32 on cpu: 99.0 dB and 0 levels from the float32 network",
        "[ok] providers of onnxruntime: cpu",
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


def test_doctor_runs_a_model_on_each_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """OpenVINO's devices and ONNX Runtime's providers: product, precision, self-test or reason."""
    core = FakeCore(openvino.core(), ("CPU", "GPU", "NPU"))
    monkeypatch.setattr(openvino, "_CORE", core)
    monkeypatch.setattr(providers, "has_plugin", lambda each: each.ep.startswith("WebGpu"))
    found = {check.name: check for check in device_checks.accelerators()}
    assert found["devices of openvino"].found == "cpu (Fake CPU), gpu (Fake GPU), npu (Fake NPU)"
    for device, precision in (("gpu", "fp32"), ("npu", "fp16")):
        check = found[f"openvino on {device}"]
        assert check.works
        assert check.found.startswith(f"{precision} on {device}: 99.0 dB")
    assert "not installed: coreml, directml, " in found["providers of onnxruntime"].found
    assert not found["onnxruntime with webgpu"].works
    assert "onnxruntime_ep_webgpu does not load" in found["onnxruntime with webgpu"].found


def test_two_wheels_of_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    """All builds share one import package, so that the last one wins."""
    both = ("onnxruntime", "onnxruntime-directml")
    monkeypatch.setattr(doctor, "_version", lambda name: "1.32.0" if name in both else None)
    check = doctor._one_onnxruntime()
    assert not check.works
    assert check.fix.startswith("pip uninstall -y onnxruntime onnxruntime-directml && pip install")
