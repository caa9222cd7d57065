"""Tuning: measured once, cached, visible, and never a silent loss of fidelity."""

from __future__ import annotations

import importlib.metadata
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
from srsdk.engines.backends import library_version
from srsdk.formats.probe import psnr_db
from srsdk.system import user_cache
from tests.conftest import make_picture
from tests.fakes.openvino_core import FakeCore

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
    monkeypatch.setattr(user_cache, "_said", set())
    return folder


def test_measured_once_and_cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call opens no engine; `again` measures again."""
    path = models.find("gan_x2")
    first = trials.tuned(path, backend="openvino", threads=1)
    assert [trial.name for trial in first.trials] == ["fp32", "bf16", "int8"]
    assert first.trials[0].parity_db == 99
    assert len(list(cache.glob("tune-*.json"))) == 1
    # besides what OpenVINO has compiled
    assert len({path.name for path in cache.iterdir()} - {"openvino"}) == 1

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
    with srsdk.Upscaler("gan_x2", backend="openvino", precision="fp32") as up:
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


def test_another_device_may_win(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each device of OpenVINO is tried, with the file and its FP16 form; `repr` shows it."""
    monkeypatch.setattr(trials, "other_devices", lambda: ("hetero:cpu", "gpu:77"))
    chosen(monkeypatch, "fp16 on hetero:cpu")
    picture = make_picture(40, 50)
    with srsdk.Upscaler("gan_x2", backend="openvino", tune=True) as up:
        assert "fp16 (tuned: fp16 on hetero:cpu, 100.0x, tiles up to " in repr(up)
        assert "openvino on cpu (hetero:cpu)" in repr(up)
        result = up(picture)
    with srsdk.Upscaler("gan_x2.fp16", backend="openvino", device="hetero:cpu") as up:
        assert np.array_equal(up(picture), result)
    assert main(["tune", "gan_x2", "--backend", "openvino"]) == 0
    text = capsys.readouterr().out
    assert "fp16 on hetero:cpu" in text
    assert "OpenVINO has no device gpu:77 here" in text
    # a device that was named is used, and has a choice of its own
    with srsdk.Upscaler("gan_x2", device="cpu", backend="openvino", tune=True) as up:
        assert up.device == "cpu"
    assert len(list(cache.glob("tune-*.json"))) == 2
    assert main(["tune", "gan_x2", "--backend", "openvino", "--device", "cpu"]) == 0
    assert "hetero" not in capsys.readouterr().out


def test_the_devices_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of OpenVINO besides the CPU, as `device=` takes them."""
    core = FakeCore(openvino.core(), ("CPU", "GPU.0", "GPU.1", "NPU"))
    monkeypatch.setattr(openvino, "_CORE", core)
    assert trials.other_devices() == ("gpu:0", "gpu:1", "npu")


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
    assert "is damaged and is made again" in caplog.text
    content = user_cache.load(file)
    assert content is not None
    assert json.loads(content)["name"] == choice.name == "int8"


TRIED = [tune_cache.Tried("a.onnx", "auto", "fp32"), tune_cache.Tried("a.onnx", "bf16", "bf16")]
GOOD: dict[str, Any] = {
    "file": "a.onnx",
    "precision": "bf16",
    "name": "bf16",
    "speed_up": 1.9,
    "tile_budget_px": 4096,
    "trials": [
        {"name": "fp32", "ms": 9.0, "parity_db": 99.0, "passed": True, "why": ""},
        {"name": "bf16", "ms": 4.7, "parity_db": 51.0, "passed": True, "why": ""},
    ],
    "tiles_ms": {"64x64": 1.5, "96x96": 4.0},
}
"""A choice as it is cached."""
JUNK: list[Any] = [None, True, -1, 0, 10**400, float("nan"), float("inf"), "x", [], {}, [[]]]
WRONG: list[Any] = [
    None, [], "abc", 1, {}, {"trials": []}, {**GOOD, "more": 1},
    *({**GOOD, name: value} for name in GOOD
      for value in JUNK),
    {**GOOD, "file": "../../evil.onnx"}, {**GOOD, "file": "/etc/passwd"},
    {**GOOD, "file": "b.onnx"}, {**GOOD, "precision": "auto"}, {**GOOD, "name": "int8"},
    {**GOOD, "tile_budget_px": 4097}, {**GOOD, "tile_budget_px": 4096.0},
    {**GOOD, "tile_budget_px": 128**2}, {**GOOD, "trials": GOOD["trials"][:1]},
    {**GOOD, "trials": [GOOD["trials"][0], {**GOOD["trials"][1], "passed": False}]},
    *({**GOOD, "trials": [{**GOOD["trials"][0], name: value}, GOOD["trials"][1]]}
      for name in GOOD["trials"][0] for value in JUNK[-2:]),
    {**GOOD, "tiles_ms": {"64x64": "fast"}}, {**GOOD, "tiles_ms": {"64x64": None}},
]  # fmt: skip
"""Values that nothing measured."""


def test_a_choice_is_believed_only_if_it_could_have_been_measured() -> None:
    """Each field has its type and range, and the file is one of those tried for this model."""
    assert tune_cache.parse(json.loads(json.dumps(GOOD)), TRIED).tile_budget_px == 4096
    for wrong in WRONG:
        with pytest.raises(ValueError, match="cannot be what was measured for this model"):
            tune_cache.parse(wrong, TRIED)


def test_a_choice_that_names_another_file_is_measured_again(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Even where it is a whole record: the file that it names is not opened."""
    with srsdk.Upscaler("gan_x2.int8", backend="onnxruntime", threads=1, tune=True):
        pass
    (file,) = cache.glob("tune-*.json")
    content = user_cache.load(file)
    assert content is not None
    shutil.copy(models.find("gan_x4"), tmp_path / "evil.onnx")
    for name in ("gan_x4.onnx", str(tmp_path / "evil.onnx"), "../models/gan_x4.onnx"):
        user_cache.store(file, json.dumps({**json.loads(content), "file": name}).encode())
        caplog.clear()
        with srsdk.Upscaler("gan_x2.int8", backend="onnxruntime", threads=1, tune=True) as up:
            assert up.manifest.name == "gan_x2"
        assert "is damaged and is measured again" in caplog.text


def test_the_library_may_come_from_another_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With only onnxruntime-gpu installed there is no distribution called onnxruntime."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2.3" if name == "onnxruntime-gpu" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(
        importlib.metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu"]}
    )
    assert library_version("onnxruntime") == "onnxruntime-gpu 1.2.3"
    assert library_version("none_of_them") == ""
    assert tune_cache.key([models.find("gan_x2")], "onnxruntime", None)


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
        ("gan_x2", {"precision": "fp64"}, "expected one of auto, fp32, fp16, bf16, int8"),
        ("gan_x2.int8", {"precision": "bf16"}, "is for float32 files, gan_x2.int8.onnx is int8"),
        ("gan_x2", {"precision": "bf16", "backend": "onnxruntime"}, "needs backend='openvino'"),
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
