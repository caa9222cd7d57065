"""Sections of `gpu-check` that run programs or libraries which work without a GPU, too."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from PIL import Image

from benchmarks.gpu import commands, engines, needs
from benchmarks.gpu.job import Job, Setup
from srsdk import models
from tests.conftest import make_picture
from training import checkpoint

TESTS = f"""
import pytest
pytestmark = pytest.{commands.MARK}
def test_good(): pass
def test_bad(): assert False, "black is not white"
def test_skipped(): pytest.skip("needs a card")
"""


def job(out: Path, **options: Any) -> Job:
    """Return a job whose publications are counted."""
    return Job(Setup(out, **options), 60)


def test_results_of_tests_are_recorded_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure is a check that does not hold; skips come with their reasons."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu\naddopts = -ra\n")
    (tmp_path / "test_some.py").write_text(TESTS)
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    monkeypatch.setattr(commands, "TESTS", tmp_path)
    published: list[int] = []
    one = Job(Setup(tmp_path), 60, lambda found: published.append(len(found["found"]["tests"])))
    commands.tests(one)
    results = {name.partition("::")[2]: result for name, result in one.found["tests"].items()}
    assert results == {"test_good": "PASSED", "test_bad": "FAILED", "test_skipped": "SKIPPED"}
    assert published[:3] == [1, 2, 3]
    assert [entry["holds"] for entry in one.checks] == [False, True]
    assert any("needs a card" in line for line in one.found["reasons"])


@pytest.mark.parametrize(
    ("summary", "code", "clean"),
    [
        ("ERROR SUMMARY: 0 errors", 0, True),
        ("RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)", 0, True),
        ("ERROR SUMMARY: 3 errors", 99, False),
        ("ERROR SUMMARY: 0 errors", 1, False),
        ("Error: no such device", 1, False),
    ],
)
def test_the_sanitizer_must_say_that_it_found_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, summary: str, code: int, clean: bool
) -> None:
    """A summary with errors, no summary, and a failed run are checks that do not hold."""
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho '========= {summary}'\nexit {code}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert needs.sanitizer_path() == tool
    one = job(tmp_path)
    commands.memcheck(one)
    assert all(entry["holds"] for entry in one.checks) is clean


def test_the_provider_of_each_node_is_read() -> None:
    """ONNX Runtime reports the provider of every node of a shipped model."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(engines.ASSIGNMENT, "1")
    path = str(models.find("gan_x4"))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = engines.counted(session.get_provider_graph_assignment_info())
    assert list(found) == ["CPUExecutionProvider"]
    assert found["CPUExecutionProvider"]["Conv"] > 8
    assert set(found["CPUExecutionProvider"]) - engines.SHAPE_OPERATORS, "pixels on the CPU"


def test_a_training_that_is_stopped_leaves_weights_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The averaged weights of the last checkpoint are written; the next run continues there."""
    data = tmp_path / "data"
    data.mkdir()
    for number in range(4):
        Image.fromarray(make_picture(160, 160)).save(data / f"{number}.png")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "tiny"\nscale = 2\nsteps = 100000\n[network]\nwidth = 8\ndepth = 2\n'
                      "[data]\npatch_px = 16\nbatch = 2\n")  # fmt: skip
    one = job(tmp_path, train_data=data, recipe=recipe, start_from=None)
    last = tmp_path / "training" / "last.safetensors"
    assert "--start-from" not in commands.training_call(one, tmp_path)

    def stopped(call: list[str], seconds: float) -> bool:
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = subprocess.Popen([part if part != "cuda" else "cpu" for part in call])
        deadline = time.monotonic() + 100
        while not last.exists() or last.stat().st_mtime_ns == before:
            assert process.poll() is None, "the training failed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.terminate()
        process.wait()
        return False

    monkeypatch.setattr(commands, "_train", stopped)
    monkeypatch.setattr(commands, "SAVE_EVERY", 3)
    monkeypatch.setenv("SRSDK_CACHE", str(tmp_path / "cache"))
    commands.training(one)
    first = one.found["steps_done"]
    _, facts = checkpoint.load(tmp_path / "training" / "weights.safetensors")
    assert facts["step"] == first > 0
    commands.training(one)
    assert one.found["steps_before"] == first < one.found["steps_done"]
    assert all(entry["holds"] for entry in one.checks)


def test_the_training_fails_with_its_exit_code(tmp_path: Path) -> None:
    """A command that ends early is an error, one that is stopped by the clock is not."""
    with pytest.raises(RuntimeError, match="exit code 3"):
        commands._train(["sh", "-c", "exit 3"], 20)
    assert commands._train(["true"], 20)
    assert not commands._train(["sleep", "60"], 0)
