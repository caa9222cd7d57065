"""The survey of architectures: rows, their processes, and the page."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from export.sources.spandrel_weights import SpandrelNetwork, import_spandrel
from export.survey import __main__ as survey
from export.survey.architectures import SMALL, Small
from export.survey.row import Row, examine
from export.survey.table import COLUMNS, is_good, page
from export.survey.weights import picture_like

needs_spandrel = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="needs spandrel: 'srsdk[foreign]'"
)


def finished(name: str, **values: Any) -> dict[str, Any]:
    """Return the row of an architecture that works."""
    row = Row(name, 100, 2, "torch.export, any size", levels={"onnxruntime": 0, "openvino": 1})
    return row.to_dict() | values


@needs_spandrel
def test_every_architecture_has_a_row() -> None:
    """What spandrel detects is in the list, under its name or with its form behind it."""
    spandrel = import_spandrel()
    known = {each.architecture.name for each in spandrel.MAIN_REGISTRY.architectures("detection")}
    listed = {small.name.partition(" (")[0] for small in SMALL}
    other = {"RealESRGAN Compact": "Compact", "RealCUGAN": "Real-CUGAN 2x"}
    assert {other.get(name, name) for name in known} <= listed


@needs_spandrel
@pytest.mark.parametrize("name", ["SwinIR", "OmniSR", "NAFNet"])
def test_random_weights_give_pictures(name: str) -> None:
    """Results span black to white, and hardly any is clipped."""
    spandrel = import_spandrel()
    network = next(small for small in SMALL if small.name == name).build().eval()
    model = spandrel.ModelLoader().load_from_state_dict(network.state_dict())
    call = SpandrelNetwork(model).eval()
    picture_like(model.model, call)
    with torch.no_grad():
        result = call(torch.rand(1, 3, 64, 64))
    assert 0.3 < float(result.mean()) < 0.7
    assert 0.05 < float(result.std()) < 0.4
    assert float(((result < 0) | (result > 1)).float().mean()) < 0.1


@needs_spandrel
@pytest.mark.slow
def test_a_row(truth: Path) -> None:
    """An architecture is exported and runs in both backends; rows are told after each step."""
    told: list[dict[str, Any]] = []
    small = Small("Compact", {"num_feat": 8, "num_conv": 2, "upscale": 2})
    row = examine(small, truth, lambda row: told.append(row.to_dict()), quick_s=0)
    assert is_good(row.to_dict())
    assert row.exported == "torch.export, any size"
    assert len(told) >= 3


def test_refused_architectures_say_why(tmp_path: Path) -> None:
    """Nothing is built for them."""
    small = next(small for small in SMALL if small.refused)
    row = examine(small, tmp_path, lambda row: None)
    assert row.problem == small.refused
    assert not is_good(row.to_dict())


def test_a_process_that_hangs_or_ends_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had printed is kept, and the reason is added."""
    lines = "\n".join(["noise", json.dumps(finished("a"))]).encode()

    def hangs(*_: Any, **__: Any) -> Any:
        raise subprocess.TimeoutExpired("a", 1, output=lines)

    def ends(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess("a", -11, stdout=lines)

    monkeypatch.setattr(subprocess, "run", hangs)
    row = survey._run("a", tmp_path, 1.0, 0.0)
    assert (row["exported"], row["problem"]) == ("torch.export, any size", "took longer than 1 s")
    monkeypatch.setattr(subprocess, "run", ends)
    assert survey._run("a", tmp_path, 1.0, 0.0)["problem"] == "its process ended with code -11"


def test_the_command_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Finished rows are not run again; the page holds all of them."""
    results, written = tmp_path / "rows.jsonl", tmp_path / "page.md"
    results.write_text(json.dumps(finished("HAT")) + "\n", encoding="utf-8")
    asked: list[str] = []

    def run(name: str, *_: Any) -> dict[str, Any]:
        asked.append(name)
        return finished(name, exported="", problem="no | way")

    monkeypatch.setattr(survey, "_run", run)
    call = ["--data", str(tmp_path), "--results", str(results), "--write", str(written)]
    assert survey.main([*call, "--only", "HAT", "--only", "SPAN"]) == 0
    assert asked == ["SPAN"]
    text = written.read_text(encoding="utf-8")
    assert "1 of 2 rows export" in text
    assert "- **SPAN**: `no | way`" in text
    assert len(results.read_text(encoding="utf-8").splitlines()) == 2
    assert survey.main(["--data", str(tmp_path / "none")]) == 1
    assert "is no folder" in capsys.readouterr().err


def test_the_page_is_a_table() -> None:
    """Every line has all columns; what is worse than a level does not count."""
    text = page([finished("a"), finished("b", levels={"openvino": 2}, fp16="no: long; reason")])
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 4
    assert all(line.count("|") == len(COLUMNS) + 1 for line in lines)
    assert "1 of 2 rows" in text
