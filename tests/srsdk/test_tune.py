"""Tuning: measured once, remembered, visible, and never at the price of fidelity unasked."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srsdk
from srsdk import engines, models, tune, tune_cache
from srsdk.cli import main
from srsdk.engines import openvino
from srsdk.probe import psnr_db
from tests.conftest import make_picture

HAS_BF16 = "BF16" in vars(openvino)["ov"].Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, and a trial of a moment."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SRSDK_CACHE", str(folder))
    monkeypatch.setattr(tune, "TILE_SIDES_PX", (64, 96))
    monkeypatch.setattr(tune, "PROBE_PX", (48, 64))
    monkeypatch.setattr(tune, "RUNS", 2)
    return folder


def test_measured_once_and_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second question opens no engine; `again` asks anew."""
    path = models.find("gan_x2")
    first = tune.tuned(path, backend="openvino", threads=1)
    assert [trial.name for trial in first.trials] == ["fp32", "bf16", "int8"]
    assert first.trials[0].parity_db == 99
    assert len(list(cache.glob("tune-*.json"))) == 1
    assert not list(cache.glob("*.part"))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(tune, "open_engine", refuse)
    assert tune.tuned(path, backend="openvino", threads=1) == first
    with pytest.raises(AssertionError, match="measured again"):
        tune.tuned(path, backend="openvino", threads=1, again=True)
    with pytest.raises(AssertionError, match="measured again"):
        tune.tuned(path, backend="openvino", threads=2)


def chosen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make one candidate much faster than the others; times are no matter of tests."""
    real = tune._judged

    def judged(candidate: tune.Candidate, ms: float, parity: float) -> tune_cache.Trial:
        return real(candidate, 1.0 if candidate.name == name else 100.0, parity)

    monkeypatch.setattr(tune, "_judged", judged)


def test_what_the_backend_refuses_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """An INT8 file that the library does not open here loses with its reason, whatever its time."""
    chosen(monkeypatch, "int8")
    real = engines.open_engine

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if ".int8" in path.name:
            raise srsdk.ModelError("no such layer here")
        return real(path, *arguments, **options)

    monkeypatch.setattr(tune, "open_engine", refuse)
    choice = tune.tuned(models.find("gan_x2"), backend="onnxruntime")
    assert choice.name == "fp32"
    assert (choice.trials[-1].name, choice.trials[-1].passed) == ("int8", False)
    assert choice.trials[-1].why == "no such layer here"


def test_int8_is_the_int8_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the INT8 file wins, it is what runs, bit by bit, and `repr` says so."""
    chosen(monkeypatch, "int8")
    picture = make_picture(40, 50)
    with srsdk.Upscaler("gan_x2", backend="openvino", tune=True) as up:
        assert "int8 (tuned: int8, 100.0x, tiles up to " in repr(up)
        result = up(picture)
    with srsdk.Upscaler("gan_x2.int8", backend="openvino") as up:
        assert np.array_equal(up(picture), result)


@needs_bf16
def test_bf16_is_the_float32_file_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bfloat16 wins, it is the same as asking for it."""
    chosen(monkeypatch, "bf16")
    picture = make_picture(40, 50)
    with srsdk.Upscaler("gan_x2", backend="openvino", tune=True) as up:
        assert "fp32 in bf16 (tuned: bf16" in repr(up)
        result = up(picture)
    with srsdk.Upscaler("gan_x2", backend="openvino", precision="bf16") as up:
        assert "fp32 in bf16, openvino" in repr(up)
        asked = up(picture)
    assert np.abs(asked.astype(int) - result).max() <= 1
    with srsdk.Upscaler("gan_x2", backend="openvino") as up:
        assert psnr_db(up(picture), asked) >= tune.MIN_PARITY_DB


@needs_bf16
def test_bf16_that_is_too_far_off_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate is measured; what fails it says why."""
    monkeypatch.setattr(tune, "MIN_PARITY_DB", 98.0)
    chosen(monkeypatch, "bf16")
    choice = tune.tuned(models.find("gan_x2"), backend="openvino")
    assert choice.name != "bf16"
    assert not choice.trials[1].passed
    assert "dB from float32, expected 98 or more" in choice.trials[1].why


def test_onnxruntime_has_no_bf16() -> None:
    """It is OpenVINO's way alone; the INT8 file is everybody's."""
    choice = tune.tuned(models.find("gan_x2"), backend="onnxruntime", threads=1)
    assert [trial.name for trial in choice.trials] == ["fp32", "int8"]


def test_int8_of_other_weights_is_no_candidate(tmp_path: Path) -> None:
    """A file that happens to have the name is another model."""
    shutil.copy(models.find("gan_x2"), tmp_path / "mine.onnx")
    shutil.copy(models.find("gan_x4.int8"), tmp_path / "mine.int8.onnx")
    choice = tune.tuned(tmp_path / "mine.onnx", backend="onnxruntime", threads=1)
    assert [trial.name for trial in choice.trials] == ["fp32"]


def test_damaged_choice_is_measured_anew(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And said."""
    path = models.find("gan_x2.int8")
    tune.tuned(path, backend="onnxruntime", threads=1)
    (file,) = cache.glob("tune-*.json")
    file.write_text("{")
    choice = tune.tuned(path, backend="onnxruntime", threads=1)
    assert "is damaged and is measured anew" in caplog.text
    assert json.loads(file.read_text())["name"] == choice.name == "int8"


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Costs a warning that names the mend, not the choice."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SRSDK_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "srsdk"):
        tune.tuned(models.find("gan_x2.int8"), backend="onnxruntime", threads=1)
    assert "SRSDK_CACHE names another folder" in caplog.text


def test_tile_is_chosen_by_time_for_a_kept_pixel() -> None:
    """The overlap counts; of tiles on a par the smaller one wins."""
    assert tune._budget_px({100: 10.0, 200: 30.0}, 10) == 200**2
    assert tune._budget_px({100: 6.4, 200: 32.0}, 10) == 100**2
    assert tune._budget_px({100: 1.0, 200: 4.0}, 0) == 100**2


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("gan_x2", {"precision": "fp64"}, "expected one of auto, bf16"),
        ("gan_x2.int8", {"precision": "bf16"}, "is for float32 files, gan_x2.int8.onnx is int8"),
        ("gan_x2", {"precision": "bf16", "backend": "onnxruntime"}, "needs backend openvino"),
        ("gan_x2", {"precision": "bf16", "tune": True}, "leave one of the two away"),
    ],
)
def test_wrong_calls(model: str, options: dict[str, Any], message: str) -> None:
    """Each gets its sentence."""
    with pytest.raises(srsdk.UsageError, match=message):
        srsdk.Upscaler(model, **options)


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`srsdk tune` shows candidates, tiles and the choice; `--json` the same for programs."""
    call = ["tune", "gan_x2.int8", "--backend", "onnxruntime", "--threads", "1"]
    assert main(call) == 0
    text = capsys.readouterr().out
    assert "int8 " in text
    assert "tile 64x64" in text
    assert "tuned: int8, 1.0x: gan_x2.int8.onnx, tiles up to " in text
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == "gan_x2.int8.onnx"
