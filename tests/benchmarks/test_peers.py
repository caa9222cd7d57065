"""Peers of the same model compute the same picture; the others are what they say."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks import records
from benchmarks.__main__ import main
from benchmarks.peers import PEERS, Job, missing, open_peer, pytorch_gpu, spandrel_onnx
from benchmarks.peers.tensorrt_loop import Loop
from srsdk.engines.cuda import NoDriverError, device_count, load_runtime
from tests import faketrt
from tests.conftest import make_picture
from tests.fakecuda import FakeRuntime

SAME = [
    name
    for name, peer in PEERS.items()
    if peer.same_model
    and not peer.gpu
    and name not in ("srsdk-bf16", "openvino-defaults", "torch-compiled")
]


def job(repository: Path, height: int, width: int) -> Job:
    """Two threads, a small picture; the peers' own files where SRSDK_PEERS names their folder."""
    weights = repository / "training" / "weights" / "gan_x4.safetensors"
    files = os.environ.get("SRSDK_PEERS")
    return Job(
        model="gan_x4", weights=str(weights), threads=2, files=files, height=height, width=width
    )


def test_same_model_same_picture(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared is one and the same work: one level at most, tiles apart from their seams.

    The checkpoint holds weights rounded to float16, which costs a few levels of one.
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
    """Those that are installed here give a picture of the right size."""
    monkeypatch.setenv("SRSDK_CACHE", str(tmp_path))
    asked = job(repository, 24, 32)
    lack = missing(PEERS[name], asked)
    if lack is not None:
        pytest.skip(lack)
    result = open_peer(name, asked)(make_picture(24, 32))
    assert result.shape == (96, 128, 3)
    assert result.dtype == np.uint8


def test_a_short_contest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reference takes part always; a peer that is not there is named and left out."""
    out = tmp_path / "peers.jsonl"
    call = ["peers", "--peers", "openvino", "ncnn-animevideov3", "--height", "24", "--width", "32"]
    assert main([*call, "--rounds", "2", "--runs", "2", "--out", str(out)]) == 0
    found = {r["config"]["peer"]: r["result"] for r in records.read(out)}
    assert set(found) == {"srsdk", "openvino"}
    assert found["srsdk"]["ratio"] == 1
    assert [len(ms) for ms in found["openvino"]["ms"]] == [2, 2]
    said = capsys.readouterr()
    if importlib.util.find_spec("ncnn") is not None:
        assert "without ncnn-animevideov3: realesr-animevideov3-x4.param is not there" in said.err


def test_peers_on_a_gpu_say_what_is_missing(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No engine, no library, no GPU: each is a sentence, and nobody fails for it."""
    asked = job(repository, 24, 32)
    assert missing(PEERS["tensorrt-loop"], asked) == (
        "no engine: --engine FILE.engine, of the same model"
    )
    with_engine = dataclasses.replace(asked, engine="gan_x4.engine")
    try:
        device_count(load_runtime())
    except NoDriverError:
        for name, peer in PEERS.items():
            if peer.gpu:
                assert missing(peer, with_engine) is not None, name
        assert main(["peers", "--peers", "openvino", "--engine", "gan_x4.engine"]) == 1
        assert "srsdk-engine is not there" in capsys.readouterr().err


@pytest.mark.parametrize("flavour", ["rtx", "tensorrt"])
def test_the_loop_of_tensorrt(flavour: str) -> None:
    """The right profile, everything on one stream, and a picture that is the caller's."""
    cuda = FakeRuntime()
    module = faketrt.make_module(flavour, cuda)
    profiles = [(1, 8, 8), ((1, 16, 16), (1, 20, 30), (1, 64, 64))]
    loop = Loop(module, cuda, faketrt.plan(profiles), (1, 20, 30, 3))
    first, second = make_picture(20, 30), make_picture(20, 30)[::-1]
    result = loop(first)
    loop(np.ascontiguousarray(second))
    np.testing.assert_array_equal(result, first.repeat(2, axis=0).repeat(2, axis=1))
    with pytest.raises(RuntimeError, match=r"no 90x80 picture at once.*--profiles 1x80x90"):
        Loop(module, cuda, faketrt.plan(profiles), (1, 80, 90, 3))
    with pytest.raises(RuntimeError, match="TensorRT refuses the engine"):
        Loop(module, cuda, b"ptrt", (1, 20, 30, 3))


def test_around_a_network_of_pytorch(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    """Bytes to bytes, in float16: what srsdk computes, within two levels; on the CPU's PyTorch."""
    monkeypatch.setattr(pytorch_gpu, "DEVICE", "cpu")
    asked, picture = job(repository, 20, 30), make_picture(20, 30)
    expected = open_peer("srsdk", asked)(picture).astype(int)
    assert np.abs(pytorch_gpu.eager(asked)(picture) - expected).max() <= 2


def test_span_through_onnx(tmp_path: Path, repository: Path) -> None:
    """The command's file is what the three libraries open; it is the size that it is said to be."""
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
    """No spandrel: what mends it, and no folder is left."""
    monkeypatch.setitem(sys.modules, "spandrel.architectures.SPAN.__arch.span", None)
    assert spandrel_onnx.main([str(tmp_path / "peers")]) == 1
    assert not (tmp_path / "peers").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("is not installed: pip install 'srsdk[peers]'")
