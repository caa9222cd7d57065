"""`python -m benchmarks layers` and `inflight` measure for real, and their figures add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import records
from benchmarks.cli import main
from benchmarks.measure import cost
from benchmarks.measure.engine import inflight, layers
from srsdk.models import find

pytest.importorskip("openvino")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_layers(tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The operations are those of the file; every layer has a time, and the floor lies below."""
    out = tmp_path / "layers.jsonl"
    call = ["layers", "gan_x2", "--precisions", precision, "--workload", "180p", "--runs", "2"]
    assert main([*call, "--threads", "1", "--out", str(out)]) == 0
    (record,) = records.read(out)
    result = record["result"]
    path = find("gan_x2.int8" if precision == "int8" else "gan_x2")
    assert result["flop"] == pytest.approx(cost.count(path, 180, 320, precision).flop, rel=1e-5)
    assert all(layer["ms"] > 0 for layer in result["layers"])
    assert result["share"] == pytest.approx(result["floor_ms"] / result["ms"], rel=1e-4)
    assert sum(layers.by_type(result).values()) >= result["ms"] * 0.999
    assert "% of the peak" in capsys.readouterr().out


def test_a_precision_that_the_processor_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO would compute in another one, so the record has the reason instead."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    out = tmp_path / "layers.jsonl"
    call = ["layers", "gan_x2", "--precisions", "bf16", "--out", str(out)]
    assert main(call) == layers.EXIT_MISSING
    (record,) = records.read(out)
    assert records.missing(record) == "this processor has no bfloat16"


def test_in_flight(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each candidate runs in a process of its own in every round."""
    out = tmp_path / "inflight.jsonl"
    call = ["inflight", "gan_x2.int8", "--workloads", "180p", "--flights", "2", "--rounds", "1"]
    assert main([*call, "--seconds", "0.1", "--out", str(out)]) == 0
    (record,) = records.read(out)
    found = record["result"]["candidates"]
    assert list(found) == list(inflight.CANDIDATES)
    assert all(one["pictures_per_s"] > 0 and one["cpu_ms"] > 0 for one in found.values())
    assert (found["openvino"]["rate_ratio"], found["openvino"]["cpu_ratio"]) == (1, 1)
    assert "gan_x2.int8 180p, 2 in flight:" in capsys.readouterr().out
    assert "| gan_x2.int8 180p, 2, " in inflight.table([record])


def test_ratios_are_taken_round_by_round() -> None:
    """A slow round slows all candidates, and changes no ratio."""

    def one(seconds: float) -> dict[str, Any]:
        return {"pictures": 10, "seconds": seconds, "cpu_seconds": 2 * seconds}

    rounds = {"srsdk latency": [one(2.0), one(8.0)], "openvino": [one(1.0), one(4.0)]}
    found = inflight.summary(rounds)
    assert found["srsdk latency"]["rate_ratio"] == pytest.approx(0.5)
    assert found["srsdk latency"]["cpu_ratio"] == pytest.approx(2)
