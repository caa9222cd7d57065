"""ONNX Runtime on CUDA: real bindings and runs on fake memory and streams."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import srsdk
from srsdk import models
from srsdk.engines import onnxruntime_cuda
from srsdk.engines.onnxruntime_cuda import open_onnxruntime_cuda
from srsdk.inference.planner import Planner
from tests import networks
from tests.conftest import make_picture
from tests.fakes.cuda import FakeRuntime, Op


class LateSession:
    """A real CPU session whose bound runs happen when the fake stream reaches them."""

    def __init__(self, path: Path, options: dict[str, str], cuda: FakeRuntime) -> None:
        self._real = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.options, self._cuda = options, cuda

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_providers(self) -> list[str]:
        """Pretend to run on CUDA."""
        return [onnxruntime_cuda.PROVIDER]

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        """Enqueue the run on the session's stream."""
        key = "disable_synchronize_execution_providers"
        assert options.get_run_config_entry(key) == "1"
        stream = int(self.options["user_compute_stream"])
        self._cuda.push(stream, Op(lambda: self._real.run_with_iobinding(binding), name="execute"))


def open_late(
    patch: pytest.MonkeyPatch, model: Path, cuda: FakeRuntime, **options: Any
) -> tuple[srsdk.Upscaler, list[LateSession]]:
    """Open an Upscaler on the fake GPU with real runs of the library."""
    sessions: list[LateSession] = []

    def make_session(path: Path | bytes, provider: dict[str, str]) -> LateSession:
        assert isinstance(path, Path)
        sessions.append(LateSession(path, provider, cuda))
        return sessions[-1]

    patch.setattr(onnxruntime_cuda, "DEVICE_KIND", "cpu")
    patch.setattr(
        "srsdk.engines.onnxruntime_cuda.open_onnxruntime_cuda",
        lambda path, gpu, max_memory, graph: open_onnxruntime_cuda(
            path, gpu, max_memory=max_memory, runtime=cuda, make_session=make_session
        ),
    )
    # no self-test: it would open a session, and the tests count them
    return srsdk.Upscaler(model, device="cuda", self_test=False, **options), sessions


@pytest.mark.parametrize("name", ["gan_x2", "gan_x4.int8"])
def test_the_same_picture_as_on_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With bound memory, late streams and graphs the result equals the plain path's bit for bit."""
    picture = make_picture(70, 90)
    with srsdk.Upscaler(name, backend="onnxruntime", tile=40) as up:
        expected = up(picture)
    cuda = FakeRuntime(5)
    up, sessions = open_late(monkeypatch, models.find(name), cuda, tile=40, slots=3)
    with up:
        assert (up.backend, up.device) == ("onnxruntime", "cuda:0")
        for _ in range(2):
            np.testing.assert_array_equal(up(picture), expected)
        assert cuda.made["cudaStreamBeginCapture"] == 3
        assert sessions[0].options["use_tf32"] == "0"
        assert "gpu_mem_limit" not in sessions[0].options
    assert cuda.leaks() == []


def test_a_float_model_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign NCHW model runs three tiles at a time; the memory limit reaches the library."""
    path = networks.nearest(tmp_path / "n.onnx", scale=2)
    cuda = FakeRuntime(1)
    picture = make_picture(150, 140)
    up, sessions = open_late(monkeypatch, path, cuda, batch=3, tile=80, max_memory="100MB")
    with up:
        planner: Planner = up._pipeline._planner
        assert planner.choose(150, 140).input_shape == (3, 3, 80, 80)
        np.testing.assert_array_equal(up(picture), picture.repeat(2, axis=0).repeat(2, axis=1))
        assert sessions[0].options["gpu_mem_limit"] == "100000000"
    assert cuda.leaks() == []


def test_asked_for_cuda_and_got_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library falls back with a log line; srsdk raises an error, and nothing leaks."""
    cuda = FakeRuntime()
    session = ort.InferenceSession(models.find("gan_x2"), providers=["CPUExecutionProvider"])
    words = r"asked .* for CUDAEx.*, got CPUEx.*pip uninstall"
    with pytest.raises(srsdk.BackendError, match=words):
        onnxruntime_cuda.check_provider(session)
    if onnxruntime_cuda.PROVIDER in ort.get_available_providers():
        pytest.skip("the GPU build is installed here")
    with pytest.raises(srsdk.BackendError, match="is the build for CPUs, without CUDAExecution"):
        open_onnxruntime_cuda(models.find("gan_x2"), 0, runtime=cuda)
    assert cuda.leaks() == []


def test_auto_needs_the_gpu_build_and_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """With both, `auto` is CUDA; with only one of them, the CPU."""
    from srsdk.engines import devices

    real = importlib.metadata.version
    monkeypatch.setattr(devices, "_shows_a_gpu", lambda: True)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.31")
    assert devices.choose_gpus("auto", None, is_engine=False) == (0,)
    monkeypatch.setattr(devices, "_shows_a_gpu", lambda: False)
    assert devices.choose_gpus("auto", None, is_engine=False) == ()
    monkeypatch.setattr(importlib.metadata, "version", real)
    assert devices.choose_gpus("cuda:12", None, is_engine=False) == (12,)
    assert devices.choose_gpus("auto", [2, 0], is_engine=True) == (2, 0)
    assert devices.choose_gpus("auto", None, is_engine=True) == (0,)
