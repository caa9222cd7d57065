"""`python -m benchmarks run` measures for real, and its records are complete."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srsdk
from benchmarks import records, workloads
from benchmarks.cli import main
from benchmarks.measure import ceilings, cost, mixed, scenarios, video, worker

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mlperf_loadgen") is None, reason="needs mlcommons-loadgen"
)


def test_a_short_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints a readable line and writes a record: configuration, hashes, load, latencies."""
    out = tmp_path / "results.jsonl"
    call = ["run", "--short", "--models", "gan_x2", "--scenarios", "SingleStream"]
    assert main([*call, "--threads", "1", "--out", str(out)]) == 0
    found = {r["kind"]: r for r in records.read(out) if "import_ms" not in r["result"]}
    assert set(found) == {"scenario", "stages", "startup", "ceilings"}
    scenario = found["scenario"]
    assert 3 <= len(scenario["result"]["ms"]) <= 6
    assert scenario["result"]["p50_ms"] <= scenario["result"]["p99_ms"]
    assert scenario["result"]["flop_per_s"] > 0
    assert scenario["config"]["model_sha256"]
    machine = scenario["meta"]["machine"]
    assert {"processor", "cores", "commit", "code_sha256", "versions"} <= set(machine)
    assert {"processor_kind", "instruction_sets"} <= set(machine)
    assert len(scenario["meta"]["before"]["load"]) == len(scenario["meta"]["after"]["load"]) == 3
    stages = found["stages"]["result"]["median_ms"]
    steps = {"decode", "stage", "h2d", "execute", "d2h", "paste", "encode"}
    assert steps | {"rest", "wall"} == set(stages)
    best = found["ceilings"]["result"]
    assert {*best["flop_per_s"], *best["lacks"]} == {"fp32", "bf16", "int8"}
    assert "scenario gan_x2 180p SingleStream: p50_ms" in capsys.readouterr().out


def test_what_cannot_run_is_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are measured; the code is 1 only if the call names what could not run."""

    def call(task: str, config: dict[str, Any]) -> dict[str, Any]:
        # the file of the name: the name alone would open the INT8 file
        if config.get("model", "").endswith("gan_x4.onnx"):
            raise worker.WorkerError("this processor has no bfloat16")
        found: dict[str, dict[str, Any]] = {
            "scenario": {"ms": [1.0], "pictures": 1, "seconds": 1.0},
            "stages": {"ms": {"wall": [1.0]}},
        }
        return found.get(task, {"load_ms": 1.0})

    monkeypatch.setattr("benchmarks.measure.worker.call", call)
    monkeypatch.setattr("benchmarks.measure.startup.import_ms", lambda _: {"import_ms": 1.0})
    out = tmp_path / "results.jsonl"
    words = ["run", "--short", "--scenarios", "SingleStream", "--out", str(out)]
    assert main(words) == 0
    lacks = [r["config"]["model"] for r in records.read(out) if records.missing(r) is not None]
    assert lacks == ["gan_x4"] * 3
    assert [r["config"].get("model") for r in records.measured(records.read(out))].count(
        "gan_x2"
    ) == 3
    said = capsys.readouterr().out
    assert "SingleStream: not on this machine: this processor has no bfloat16" in said
    assert main([*words, "--models", "gan_x2"]) == 0
    assert main([*words, "--models", "gan_x2", "gan_x4"]) == 1
    assert main([*words, "--precision", "bf16"]) == 1
    assert main([*words, "--models", "nothing"]) == 1
    assert "'nothing' is not a shipped model" in capsys.readouterr().err


def test_a_ceiling_in_a_missing_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is listed as lacking: OpenVINO would measure float32 under its name."""
    monkeypatch.setattr(ceilings, "_has_bf16", lambda: False)
    monkeypatch.setattr(ceilings, "_convolution", lambda *_: 1.0)
    monkeypatch.setattr(ceilings, "_copy", lambda _: 1.0)
    found = ceilings.measure(1)
    assert found["flop_per_s"] == {"fp32": 1.0, "int8": 1.0}
    assert found["lacks"] == {"bf16": "this processor has no bfloat16"}


@pytest.mark.parametrize("scenario", scenarios.SCENARIOS)
def test_load_generator_asks_for_every_picture(scenario: str) -> None:
    """Each query is answered once; the generator receives all pictures it asked for."""
    seen: list[int] = []
    load = scenarios.Load(scenario, 8, streams=3, qps=500)
    result = scenarios.run(load, seen.append, 5)
    pictures = {"MultiStream": 24}.get(scenario, 8)
    assert result["pictures"] == pictures
    # the generator rounds a query up to whole samples of its own; it asks for no fewer
    assert len(seen) >= pictures
    assert set(seen) <= set(range(5))
    assert len(result["ms"]) == (1 if scenario == "Offline" else 8)
    assert result["loadgen"]["Scenario"] == scenario


def test_failures_are_reported() -> None:
    """A failing picture ends the run with an error and does not hang it."""

    def fail(index: int) -> None:
        raise ValueError(f"picture {index}")

    with pytest.raises(RuntimeError, match="SingleStream: ValueError"):
        scenarios.run(scenarios.Load("SingleStream", 2), fail, 1)


def test_cost_of_a_shipped_model() -> None:
    """The count matches the arithmetic: all convolution weights, once per pixel."""
    one = cost.count(srsdk.models.find("gan_x4"), 1, 1, "fp32")
    int8 = cost.count(srsdk.models.find("gan_x4.int8"), 1, 1, "int8")
    assert one.flop == int8.flop
    # 32 channels, 8 inner convolutions; 48 outputs of the last one and of the anchor
    inner = 3 * 32 * 9 + 8 * 32 * 32 * 9 + 32 * 48 * 9
    assert inner * 2 < one.flop <= 2 * (inner + 3 * 48 * 25)


def test_pictures_are_equal_everywhere() -> None:
    """A seed gives the same picture; frames move."""
    assert np.array_equal(workloads.picture(20, 30, 1), workloads.picture(20, 30, 1))
    first, *_, last = workloads.frames(workloads.WORKLOADS["tile"], 5)
    assert first.shape == last.shape == (256, 256, 3)
    assert not np.array_equal(first, last)


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    """The error names file and line."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"schema": 1, "kind": "other"}\n')
    with pytest.raises(records.RecordError, match=r"x\.jsonl, line 1: kind 'other'"):
        list(records.read(path))


@pytest.mark.parametrize("model", ["gan_x2", "realtime_x2"])
def test_video_from_decode_to_encode(model: str) -> None:
    """All frames go through `srsdk.video`, with the network and with a bicubic kernel."""
    pytest.importorskip("av")
    result = video.measure(model, workloads.WORKLOADS["video"], 3, threads=1)
    assert result["computed"] == len(result["ms"]) == 3
    assert result["computed_share"] == 1
    assert result["fps"] > 0
    assert result["of_bicubic"] > 0


def test_a_screen_recording_changes_in_places() -> None:
    """Most pixels are those of the frame before, but every frame differs."""
    shown = list(workloads.frames(workloads.WORKLOADS["screen"], 12))
    shares = [float((a != b).any(2).mean()) for a, b in itertools.pairwise(shown)]
    assert min(shares) > 0
    assert max(shares) < 0.1


def test_mixed_sizes_are_like_those_of_a_server() -> None:
    """The same on every machine; hardly a size occurs twice, some are portrait, some are odd."""
    sizes = workloads.mixed_sizes()
    assert sizes == workloads.mixed_sizes()
    assert sizes != workloads.mixed_sizes(seed=1)
    assert len(sizes) == workloads.MIXED
    assert len(set(sizes)) == workloads.MIXED - workloads.MIXED // 6
    assert any(height > width for height, width in sizes)
    assert any(height % 2 and width % 2 for height, width in sizes)
    assert max(map(max, sizes)) <= 1024


def test_mixed_and_startup_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture of each size in the order of arrival; startup without a cache and with one."""
    few = {0: [(24, 36), (36, 24), (24, 36)], 1: [(24, 40)]}
    monkeypatch.setattr(workloads, "mixed_sizes", lambda seed=0: few[seed])
    found = mixed.measure("gan_x2", backend="openvino")
    assert (len(found["ms"]), found["pictures"]) == (3, 3)
    assert found["cpu_ms"] > 0
    raw = worker.call("startup", {"model": "gan_x2", "workload": "tile", "options": {}})
    assert {"load_ms", "first_ms", "second_ms", "cold_load_ms", "cold_first_ms"} <= set(raw)
