"""JSON reports: the summary table, the regression check for CI, and paired timing."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from export import paired, regress, summary
from export.cli import main
from export.evaluation.speed import SpeedComparison, worth


@pytest.fixture(scope="module")
def report(
    weights: Path, drawn: Path, truth: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Report of a real export with both INT8 files."""
    folder = tmp_path_factory.mktemp("reported")
    call = [str(weights), "-o", str(folder), "--precision", "fp32,fp16,int8", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr("sys.stdout.write", written.append)
        assert main([*call, "--data", str(drawn), "--test", str(truth)]) == 0
    return json.loads("".join(written))


def saved(folder: Path, name: str, report: Any) -> str:
    """Save a report and return its path."""
    (folder / name).write_text(json.dumps(report))
    return str(folder / name)


def test_the_table(report: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row per file, with milliseconds if it runs on this machine, and the loss of INT8."""
    assert summary.main([saved(tmp_path, "r.json", report)]) == 0
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 4
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [cell[1] for cell in cells] == ["fp32", "fp16", "int8", "int8"]
    assert all(cell[0] == "toy_x2" for cell in cells)
    for cell, file in zip(cells, report["files"], strict=True):
        assert cell[3] == f"{file['bytes'] / 1000:,.0f} KB"
        assert ("openvino" in cell[7] and " at 320x180" in cell[7]) == (file["flavour"] != "gpu")
    assert "dB" in cells[2][6]


def test_the_speed_comparison(report: Any) -> None:
    """INT8 is compared with both float files in each backend, with the number of rounds."""
    assert {c["backend"] for c in report["comparison"]} == {"openvino", "onnxruntime"}
    for comparison in report["comparison"]:
        assert set(comparison["ms"]) == {"fp32", "fp16", "int8"}
        assert set(comparison["speedup"]) == set(comparison["faster_in"]) == {"fp32", "fp16"}
        assert 3 <= comparison["rounds"] <= 9


def test_nothing_is_worse_than_itself(
    report: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report compared with itself gives exit code 0."""
    path = saved(tmp_path, "r.json", report)
    assert regress.main([path, path]) == 0
    assert capsys.readouterr().out == "4 files, none worse\n"


def test_what_got_worse_is_named(
    report: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Worse size, parity or loss, and a missing file, give exit code 3 and one line each."""
    worse = copy.deepcopy(report)
    fp32, fp16, int8, _ = worse["files"]
    fp32["bytes"] = int(fp32["bytes"] * 1.06)
    fp16["manifest"]["parity_db"] -= 1.0
    int8["manifest"]["scores"]["truth0"]["loss_db"] += 0.02
    del worse["files"][3]
    before, now = (saved(tmp_path, n, r) for n, r in (("a.json", report), ("b.json", worse)))
    assert regress.main([now, before]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "toy_x2.onnx",
        "toy_x2.fp16.onnx",
        "toy_x2.int8.onnx",
        "toy_x2.int8.gpu.onnx",
    ]
    for line, word in zip(lines, ("grew", "parity fell", "loses", "missing"), strict=True):
        assert word in line


def test_what_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that are not reports give one sentence each."""
    (tmp_path / "r.json").write_text("[]")
    assert summary.main([str(tmp_path / "r.json")]) == 1
    assert regress.main([str(tmp_path / "none.json"), str(tmp_path / "r.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 2


def test_pairs_of_files(report: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Two files run in two backends, each turn in its own process; errors are reported."""
    slow, quick = (report["files"][index]["file"] for index in (0, 2))
    call = ["--size", "32x24", "--rounds", "2", "--runs", "2"]
    assert paired.main([f"onnxruntime:{slow}", f"openvino:{quick}", *call]) == 0
    assert "times as fast (median of paired ratios" in capsys.readouterr().out
    assert paired.main(["onnxruntime:none.onnx", f"openvino:{quick}", *call]) == 1
    error = capsys.readouterr().err
    assert error.startswith("paired: none.onnx")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("ratios", "wanted"),
    [
        ({"openvino": (10.0, 1.8), "onnxruntime": (30.0, 0.8)}, r"is worth it: 1\.80x .* openvino"),
        ({"openvino": (10.0, 1.02)}, r"is not worth it: 1\.02x .* at 0\.3 dB; use the fp32"),
    ],
    ids=["faster", "hardly"],
)
def test_whether_int8_is_worth_it(ratios: dict[str, tuple[float, float]], wanted: str) -> None:
    """The backend that runs INT8 fastest decides, with its speed and its loss."""
    comparisons = [
        SpeedComparison(
            backend,
            (24, 40),
            MappingProxyType({"fp32": ms * ratio, "int8": ms}),
            MappingProxyType({"fp32": ratio}),
            MappingProxyType({"fp32": 1.0}),
            9,
        )
        for backend, (ms, ratio) in ratios.items()
    ]
    assert re.search(wanted, worth(comparisons, "0.3 dB"))
    assert worth([], "0.3 dB") == ""
