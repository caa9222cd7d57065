"""Tuning: measured once, cached, visible, and never a silent loss of fidelity."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srsdk
from srsdk import models
from srsdk.autotune import cache as tune_cache
from srsdk.autotune import trials
from srsdk.cli.main import main
from srsdk.engines import openvino, select
from srsdk.formats.probe import psnr_db
from tests.conftest import make_picture

HAS_BF16 = "BF16" in vars(openvino)["ov"].Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a separate cache folder and very short trials."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SRSDK_CACHE", str(folder))
    monkeypatch.setattr(trials, "TILE_SIDES_PX", (64, 96))
    monkeypatch.setattr(trials, "PROBE_PX", (48, 64))
    monkeypatch.setattr(trials, "RUNS", 2)
    return folder


def test_measured_once_and_cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call opens no engine; `again` measures again."""
    path = models.find("gan_x2")
    first = trials.tuned(path, backend="openvino", threads=1)
    assert [trial.name for trial in first.trials] == ["fp32", "bf16", "int8"]
    assert first.trials[0].parity_db == 99
    assert len(list(cache.glob("tune-*.json"))) == 1
    assert not list(cache.glob("*.part"))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(trials, "open_engine", refuse)
    assert trials.tuned(path, backend="openvino", threads=1) == first
    with pytest.raises(AssertionError, match="measured again"):
        trials.tuned(path, backend="openvino", threads=1, again=True)
    with pytest.raises(AssertionError, match="measured again"):
        trials.tuned(path, backend="openvino", threads=2)


def chosen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make one candidate much faster than the others, so that real times do not matter."""
    real = trials._checked

    def checked(candidate: trials.Candidate, ms: float, parity: float) -> tune_cache.Trial:
        return real(candidate, 1.0 if candidate.name == name else 100.0, parity)

    monkeypatch.setattr(trials, "_checked", checked)


def test_a_refused_file_is_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An INT8 file that the library cannot open is not chosen, and its reason is kept."""
    chosen(monkeypatch, "int8")
    real = select.open_engine

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if ".int8" in path.name:
            raise srsdk.ModelError("no such layer here")
        return real(path, *arguments, **options)

    monkeypatch.setattr(trials, "open_engine", refuse)
    choice = trials.tuned(models.find("gan_x2"), backend="onnxruntime")
    assert choice.name == "fp32"
    assert (choice.trials[-1].name, choice.trials[-1].passed) == ("int8", False)
    assert choice.trials[-1].why == "no such layer here"


def test_int8_is_the_int8_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the INT8 file wins, it runs with identical results, and `repr` shows it."""
    chosen(monkeypatch, "int8")
    picture = make_picture(40, 50)
    with srsdk.Upscaler("gan_x2", backend="openvino", tune=True) as up:
        assert "int8 (tuned: int8, 100.0x, tiles up to " in repr(up)
        result = up(picture)
    with srsdk.Upscaler("gan_x2.int8", backend="openvino") as up:
        assert np.array_equal(up(picture), result)


@needs_bf16
def test_bf16_is_the_float32_file_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """If bfloat16 wins, the result is the same as with `precision="bf16"`."""
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
        assert psnr_db(up(picture), asked) >= trials.MIN_PARITY_DB


@needs_bf16
def test_bf16_that_is_too_far_off_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate below the PSNR gate is not chosen, and its reason is kept."""
    monkeypatch.setattr(trials, "MIN_PARITY_DB", 98.0)
    chosen(monkeypatch, "bf16")
    choice = trials.tuned(models.find("gan_x2"), backend="openvino")
    assert choice.name != "bf16"
    assert not choice.trials[1].passed
    assert "dB from float32, expected 98 or more" in choice.trials[1].why


def test_onnxruntime_has_no_bf16() -> None:
    """Only OpenVINO supports bfloat16; every backend supports the INT8 file."""
    choice = trials.tuned(models.find("gan_x2"), backend="onnxruntime", threads=1)
    assert [trial.name for trial in choice.trials] == ["fp32", "int8"]


def test_int8_of_other_weights_is_not_a_candidate(tmp_path: Path) -> None:
    """A file that has the right name by chance is another model."""
    shutil.copy(models.find("gan_x2"), tmp_path / "mine.onnx")
    shutil.copy(models.find("gan_x4.int8"), tmp_path / "mine.int8.onnx")
    choice = trials.tuned(tmp_path / "mine.onnx", backend="onnxruntime", threads=1)
    assert [trial.name for trial in choice.trials] == ["fp32"]


def test_a_damaged_choice_is_measured_again(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A warning is logged."""
    path = models.find("gan_x2.int8")
    trials.tuned(path, backend="onnxruntime", threads=1)
    (file,) = cache.glob("tune-*.json")
    file.write_text("{")
    choice = trials.tuned(path, backend="onnxruntime", threads=1)
    assert "is damaged and is measured again" in caplog.text
    assert json.loads(file.read_text())["name"] == choice.name == "int8"


def test_a_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a warning with the fix is logged; the choice is still used."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SRSDK_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "srsdk"):
        trials.tuned(models.find("gan_x2.int8"), backend="onnxruntime", threads=1)
    assert "set SRSDK_CACHE to another folder" in caplog.text


def test_tile_is_chosen_by_time_per_kept_pixel() -> None:
    """The overlap counts; the smaller of two equally fast tiles wins."""
    assert trials._budget_px({100: 10.0, 200: 30.0}, 10) == 200**2
    assert trials._budget_px({100: 6.4, 200: 32.0}, 10) == 100**2
    assert trials._budget_px({100: 1.0, 200: 4.0}, 0) == 100**2


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("gan_x2", {"precision": "fp64"}, "expected one of auto, bf16"),
        ("gan_x2.int8", {"precision": "bf16"}, "is for float32 files, gan_x2.int8.onnx is int8"),
        ("gan_x2", {"precision": "bf16", "backend": "onnxruntime"}, "needs backend openvino"),
        ("gan_x2", {"precision": "bf16", "tune": True}, "omit one of the two"),
    ],
)
def test_wrong_calls(model: str, options: dict[str, Any], message: str) -> None:
    """Each gets its own message."""
    with pytest.raises(srsdk.UsageError, match=message):
        srsdk.Upscaler(model, **options)


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`srsdk tune` shows candidates, tiles and the choice; `--json` prints the same as JSON."""
    call = ["tune", "gan_x2.int8", "--backend", "onnxruntime", "--threads", "1"]
    assert main(call) == 0
    text = capsys.readouterr().out
    assert "int8 " in text
    assert "tile 64x64" in text
    assert "tuned: int8, 1.0x: gan_x2.int8.onnx, tiles up to " in text
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == "gan_x2.int8.onnx"
