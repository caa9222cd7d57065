"""Peers of the same model compute the same picture; all others upscale by four."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from benchmarks import records
from benchmarks.cli import main
from benchmarks.measure import worker
from benchmarks.measure.worker import WorkerError
from benchmarks.peers import pytorch_gpu, spandrel_onnx
from benchmarks.peers.adapters import PEERS, Job, missing, open_peer
from benchmarks.publish import tables
from srsdk.engines.cuda.driver import NoDriverError, device_count
from srsdk.system.processor import processor
from tests.conftest import make_picture

SMALL = ("--height", "24", "--width", "32")
SAME = [
    name
    for name, peer in PEERS.items()
    if peer.same_model
    and not peer.gpu
    and name not in ("srsdk-bf16", "openvino-defaults", "torch-compiled")
]


def job(repository: Path, height: int, width: int) -> Job:
    """Return a job with two threads; SRSDK_PEERS may name the folder of the peers' files."""
    weights = repository / "training" / "weights" / "gan_x4.safetensors"
    files = os.environ.get("SRSDK_PEERS")
    return Job(
        model="gan_x4", weights=str(weights), threads=2, files=files, height=height, width=width
    )


def test_same_model_same_picture(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All peers of the same model do the same work: results differ by one level at most.

    The checkpoint stores weights rounded to float16, which explains that level.
    """
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)
    picture = make_picture(20, 30)
    results = {name: open_peer(name, job(repository, 20, 30))(picture).copy() for name in SAME}
    for name, result in results.items():
        assert np.abs(result.astype(int) - results["srsdk"]).max() <= 1, name


@pytest.mark.parametrize("name", [n for n, p in PEERS.items() if not p.same_model and not p.slow])
def test_peers_upscale_by_four(
    repository: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All peers installed here give a picture of the right size."""
    monkeypatch.setenv("SRSDK_CACHE", str(tmp_path))
    asked = job(repository, 24, 32)
    lack = missing(PEERS[name], asked)
    if lack is not None:
        pytest.skip(lack)
    result = open_peer(name, asked)(make_picture(24, 32))
    assert result.shape == (96, 128, 3)
    assert result.dtype == np.uint8


def test_a_short_contest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reference always runs; a missing peer that the call names gives a row and code 1."""
    out = tmp_path / "peers.jsonl"
    call = ["peers", "--peers", "openvino", "ncnn-animevideov3", *SMALL]
    assert main([*call, "--rounds", "2", "--runs", "2", "--out", str(out)]) == 1
    made = list(records.read(out))
    found = {r["config"]["peer"]: r["result"] for r in made}
    assert set(found) == {"srsdk", "openvino", "ncnn-animevideov3"}
    assert found["srsdk"]["ratio"] == 1
    assert [len(ms) for ms in found["openvino"]["ms"]] == [2, 2]
    why = "realesr-animevideov3-x4.param not found: pass --files FOLDER with this file"
    if importlib.util.find_spec("ncnn") is None:
        why = "ncnn is not installed: pip install 'srsdk[peers]'"
    assert found["ncnn-animevideov3"] == {"missing": why}
    said = capsys.readouterr().out
    assert f"ncnn, realesr-animevideov3: not on this machine: {why}\n" in said
    machine = made[0]["meta"]["machine"]
    assert machine["processor_kind"] == processor().kind
    assert machine["instruction_sets"] == list(processor().instruction_sets)
    assert f"not on this machine: {why} |" in tables.published(made)


def stand_in(monkeypatch: pytest.MonkeyPatch, lacks: dict[str, str]) -> None:
    """Measure nothing: peers in `lacks` fail in their process, the others take 10 ms."""

    def call(task: str, config: dict[str, Any]) -> dict[str, Any]:
        if config["peer"] in lacks:
            raise WorkerError(lacks[config["peer"]])
        if task == "quality":
            return {"psnr_y_db": 30.0, "ssim_y": 0.9, "peak_bytes": 1}
        return {"ms": [10.0, 10.0], "open_ms": 1.0, "peak_bytes": 2**20}

    monkeypatch.setattr("benchmarks.measure.worker.call", call)


def test_a_failing_peer_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no peer is named, all others are measured in every round, and the code is 0."""
    no_bf16 = "this processor has no bfloat16"
    stand_in(monkeypatch, {"srsdk-bf16": no_bf16, "torch-eager": "its process was killed"})
    out = tmp_path / "peers.jsonl"
    assert main(["peers", *SMALL, "--rounds", "3", "--out", str(out)]) == 0
    found = {r["config"]["peer"]: r["result"] for r in records.read(out)}
    assert found["srsdk-bf16"] == {"missing": no_bf16}
    assert found["torch-eager"] == {"missing": "its process was killed"}
    assert [len(found[name]["ms"]) for name in ("srsdk", "openvino", "srsdk-int8")] == [3, 3, 3]
    assert '`precision="bf16"`: not on this machine: this processor' in capsys.readouterr().out
    assert main(["peers", *SMALL, "--rounds", "1", "--peers", "srsdk-bf16"]) == 1


def test_without_srsdk_itself_there_are_times_and_no_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference counts as named."""
    stand_in(monkeypatch, {"srsdk": "no backend"})
    out = tmp_path / "peers.jsonl"
    call = ["peers", *SMALL, "--rounds", "2", "--peers", "openvino", "--out", str(out)]
    assert main(call) == 1
    found = {r["config"]["peer"]: r["result"] for r in records.read(out)}
    assert found["srsdk"] == {"missing": "no backend"}
    assert found["openvino"]["median_ms"] == 10
    assert found["openvino"]["ratio"] is None


def test_quality_of_a_missing_peer_is_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are scored; a folder without pictures is a usage error."""
    stand_in(monkeypatch, {"srsdk-int8": "the backend refuses the file"})
    Image.fromarray(make_picture(24, 24)).save(tmp_path / "a.png")
    out = tmp_path / "quality.jsonl"
    call = ["quality", "--test", str(tmp_path), "--out", str(out)]
    assert main(call) == 0
    found = {r["config"]["peer"]: r["result"] for r in records.read(out)}
    assert found["srsdk-int8"] == {"missing": "the backend refuses the file"}
    assert found["openvino"]["psnr_y_db"] == 30
    assert "srsdk-int8: not on this machine: the backend refuses" in capsys.readouterr().out
    assert main([*call, "--peers", "srsdk-int8"]) == 1
    assert main(["quality", "--test", str(tmp_path / "none")]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_a_process_reports_why_it_failed(tmp_path: Path) -> None:
    """It reports the error's message in one line without local folders, or the signal."""
    with pytest.raises(WorkerError, match="nothing") as failed:
        worker.call("startup", {"model": "nothing", "workload": "tile", "options": {}})
    assert "\n" not in str(failed.value)
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(WorkerError, match="its process was killed by SIGKILL"):
        worker.result_of([sys.executable, "-c", code])
    with pytest.raises(WorkerError, match="ended with code 3: no error output"):
        worker.result_of([sys.executable, "-c", "raise SystemExit(3)"])
    error = ValueError(f"{tmp_path}/x.onnx:\n  is no {'long ' * 100}file")
    message = worker.reason(error)
    assert message.startswith("ValueError: x.onnx: is no long")
    assert len(message) == worker.MOST_CHARACTERS
    assert worker.reason(ModuleNotFoundError(name="ncnn")) == "ncnn is not installed"


def test_a_process_on_another_processor_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its results would be recorded for the wrong kind of processor."""
    here = processor().kind
    other = dataclasses.replace(processor(), kind="SSE4.2")
    monkeypatch.setattr(worker, "processor", lambda: other)
    with pytest.raises(WorkerError, match=f"^its process runs on {here}, but the command on SSE4"):
        worker.call("ceilings", {"threads": 1})


def test_an_unknown_model_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """It is one sentence, before anything is measured."""
    assert main(["peers", "--model", "nothing"]) == 1
    assert "nothing" in capsys.readouterr().err


def test_gpu_peers_report_what_is_missing(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No engine, no library, no GPU: each is one sentence, and other peers still run."""
    asked = job(repository, 24, 32)
    assert missing(PEERS["tensorrt-loop"], asked) == (
        "no engine: pass --engine FILE.engine of the same model"
    )
    with_engine = dataclasses.replace(asked, engine="gan_x4.engine")
    try:
        device_count()
    except NoDriverError:
        for name, peer in PEERS.items():
            if peer.gpu:
                assert missing(peer, with_engine) is not None, name
        call = ["peers", *SMALL, "--rounds", "1", "--runs", "2", "--peers", "openvino"]
        assert main([*call, "--engine", "gan_x4.engine"]) == 1
        said = capsys.readouterr().out
        assert "srsdk, TensorRT engine: not on this machine: " in said
        assert "bare OpenVINO, FP32: " in said


def test_around_a_network_of_pytorch(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    """In float16 it matches srsdk within two levels; here PyTorch runs on the CPU."""
    monkeypatch.setattr(pytorch_gpu, "DEVICE", "cpu")
    asked, picture = job(repository, 20, 30), make_picture(20, 30)
    expected = open_peer("srsdk", asked)(picture).astype(int)
    assert np.abs(pytorch_gpu.eager(asked)(picture) - expected).max() <= 2


def test_span_through_onnx(tmp_path: Path, repository: Path) -> None:
    """All three peers open the command's file, which has the documented size."""
    pytest.importorskip("spandrel", reason="pip install --no-deps spandrel einops")
    made = spandrel_onnx.make(tmp_path)
    weights = sum(numpy_helper.to_array(w).size for w in onnx.load(made).graph.initializer)
    assert 130_000 < weights < 132_000
    asked = dataclasses.replace(job(repository, 20, 24), files=str(tmp_path))
    results = []
    for name in ("span-openvino", "span-openvino-bf16", "span-onnxruntime"):
        assert missing(PEERS[name], asked) is None
        results.append(open_peer(name, asked)(make_picture(20, 24)).astype(int))
        assert results[-1].shape == (80, 96, 3)
    assert np.abs(results[0] - results[2]).max() <= 1


def test_making_span_fails_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without spandrel, the error names the fix, and no folder is created."""
    monkeypatch.setitem(sys.modules, "spandrel.architectures.SPAN.__arch.span", None)
    assert spandrel_onnx.main([str(tmp_path / "peers")]) == 1
    assert not (tmp_path / "peers").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("is not installed: pip install 'srsdk[peers]'")
