"""The benchmark runs every candidate for real, and its record is complete."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.workers import WORKERS
from tests.conftest import make_picture


def test_a_short_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One round on a small picture: a table for people, all raw figures for programs."""
    out = tmp_path / "record.json"
    size = ["--height", "24", "--width", "32"]
    assert main([*size, "--rounds", "1", "--runs", "2", "--json", str(out)]) == 0
    text = capsys.readouterr().out
    record = json.loads(out.read_text())
    assert {row["name"] for row in record["rows"]} == set(WORKERS)
    assert all(row["ms"] > 0 and row["peak_mib"] > 10 for row in record["rows"])
    assert all(row["ratio"] == 1 for row in record["rows"] if row["name"].startswith("bare"))
    assert all(len(runs[0]["ms"]) == 2 for runs in record["raw"].values())
    assert "| srsdk-openvino |" in text


def test_all_candidates_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared is one and the same work."""
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)
    picture = make_picture(20, 30)
    results = [open_it("gan_x4", picture)(picture).copy() for open_it in WORKERS.values()]
    for result in results[1:]:
        assert np.abs(result.astype(int) - results[0]).max() <= 1
