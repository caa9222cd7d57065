"""ONNX Runtime on CUDA: real bindings and runs on the memory and streams of the simulated GPU."""

from __future__ import annotations

import importlib.metadata
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import srsdk
from srsdk import models
from srsdk.engines import onnxruntime_cuda
from srsdk.engines.onnxruntime_cuda import check_nodes, open_onnxruntime_cuda
from srsdk.inference.planner import Planner
from tests import networks
from tests.conftest import make_picture
from tests.simulators.cuda import Simulator
from tests.srsdk.adoption.nets import Net


class LateSession:
    """A real CPU session whose bound runs happen when the simulated stream reaches them."""

    def __init__(self, path: Path | bytes, options: dict[str, str], gpu: Simulator) -> None:
        self._real = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.options, self._gpu = options, gpu

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def io_binding(self) -> LateBinding:
        """Return a binding that is applied when it runs."""
        return LateBinding()

    def run_with_iobinding(self, binding: LateBinding, options: Any) -> None:
        """Enqueue the run on the session's stream."""
        key = "disable_synchronize_execution_providers"
        assert options.get_run_config_entry(key) == "1"
        stream = int(self.options["user_compute_stream"])
        assert self._gpu.kernel(stream, lambda: self._run(binding)) == 0

    def _run(self, late: LateBinding) -> None:
        real = self._real.io_binding()
        for method, name, dtype, shape, address in late.bound:
            size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
            content = self._gpu.content(address, size_bytes).ctypes.data
            getattr(real, method)(name, "cpu", 0, dtype, shape, content)
        for name, values in late.copied.items():
            real.bind_cpu_input(name, values)
        self._real.run_with_iobinding(real)


class LateBinding:
    """Device addresses, which a CPU session can only use within a kernel."""

    def __init__(self) -> None:
        self.bound: list[tuple[Any, ...]] = []
        self.copied: dict[str, Any] = {}

    def bind_input(self, name: str, kind: str, index: int, *rest: Any) -> None:
        """Keep the address."""
        assert (kind, index) == ("cuda", 0)
        self.bound.append(("bind_input", name, *rest))

    def bind_output(self, name: str, kind: str, index: int, *rest: Any) -> None:
        """Keep the address."""
        assert (kind, index) == ("cuda", 0)
        self.bound.append(("bind_output", name, *rest))

    def bind_cpu_input(self, name: str, values: Any) -> None:
        """Copy the values now, as the library does."""
        self.copied[name] = values.copy()

    def synchronize_inputs(self) -> None:
        """Do nothing: the values are copied."""


def open_late(
    patch: pytest.MonkeyPatch, model: Path, gpu: Simulator, **options: Any
) -> tuple[srsdk.Upscaler, list[LateSession]]:
    """Open an Upscaler on the simulated GPU with real runs of the library."""
    sessions: list[LateSession] = []

    def make_session(path: Path | bytes, provider: dict[str, str]) -> LateSession:
        sessions.append(LateSession(path, provider, gpu))
        return sessions[-1]

    patch.setattr(onnxruntime_cuda, "make_cuda_session", make_session)
    # no self-test: it would open a session, and the tests count them
    return srsdk.Upscaler(model, device="cuda", self_test=False, **options), sessions


@pytest.mark.parametrize("name", ["gan_x2", "gan_x4.int8"])
def test_the_same_picture_as_on_the_cpu(
    gpu: Simulator, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With bound memory and late streams the result equals the plain path's bit for bit.

    Runs are not captured: the library may copy pageable memory in them, which a graph would repeat
    with old content.
    """
    picture = make_picture(70, 90)
    path = models.find(name)  # a name alone would open the INT8 file on a CPU
    with srsdk.Upscaler(path, device="cpu", backend="onnxruntime", tile=40) as up:
        expected = up(picture)
    up, sessions = open_late(monkeypatch, path, gpu, tile=40, slots=3)
    with up:
        assert (up.backend, up.device) == ("onnxruntime", "cuda:0")
        for _ in range(2):
            np.testing.assert_array_equal(up(picture), expected)
        assert not gpu.made("cuStreamBeginCapture")
        assert sessions[0].options["use_tf32"] == "0"
        assert "gpu_mem_limit" not in sessions[0].options


def test_a_name_on_a_gpu_is_its_own_file(gpu: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """`precision="auto"` chooses the INT8 file on CPUs only; `int8` opens the form for GPUs."""

    def make_session(path: Path, provider: dict[str, str]) -> LateSession:
        return LateSession(path, provider, gpu)

    monkeypatch.setattr(onnxruntime_cuda, "make_cuda_session", make_session)
    with srsdk.Upscaler("gan_x2", device="cuda") as up:
        assert " fp32, onnxruntime on cuda:0" in repr(up)
    with srsdk.Upscaler("gan_x2", device="cuda", precision="int8") as up:
        assert up.manifest.flavour == "gpu"
        assert " int8, onnxruntime on cuda:0" in repr(up)
    with pytest.raises(srsdk.UsageError, match=r"needs vae_x4\.int8\.gpu\.onnx"):
        srsdk.Upscaler("vae_x4", device="cuda", precision="int8")


def test_a_float_model_in_batches(
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign NCHW model runs three tiles at a time; the memory limit reaches the library."""
    path = networks.nearest(tmp_path / "n.onnx", scale=2)
    picture = make_picture(150, 140)
    up, sessions = open_late(monkeypatch, path, gpu, batch=3, tile=80, max_memory="100MB")
    with up:
        planner: Planner = up._pipeline._planner
        assert planner.choose(150, 140).input_shape == (3, 80, 80, 3)
        np.testing.assert_array_equal(up(picture), picture.repeat(2, axis=0).repeat(2, axis=1))
        assert sessions[0].options["gpu_mem_limit"] == "100000000"


def test_numbers_beside_the_picture(
    gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call's own numbers reach the network, and the next call has the defaults again."""
    net = Net(noise="map")
    path, picture = net.save(tmp_path / "n.onnx"), make_picture(60, 70)
    io = srsdk.IO(range=1, order="rgb", inputs={"noise": (15, 255)})
    with srsdk.Upscaler(path, device="cpu", backend="onnxruntime", io=io, health=False) as up:
        expected = up(picture), up(picture, noise=40)
    assert np.abs(expected[0].astype(int) - expected[1]).max() > 20
    up, _ = open_late(monkeypatch, path, gpu, io=io, tile=40, health=False)
    with up:
        for noise, wanted in ((15, expected[0]), (40, expected[1]), (15, expected[0])):
            np.testing.assert_array_equal(up(picture, noise=noise), wanted)
        np.testing.assert_array_equal(up(picture), expected[0])


def test_asked_for_cuda_and_got_the_cpu(gpu: Simulator) -> None:
    """The library falls back with a log line; srsdk raises an error, and nothing leaks."""
    session = ort.InferenceSession(models.find("gan_x2"), providers=["CPUExecutionProvider"])
    words = r"asked .* for CUDAEx.*, got CPUEx.*pip uninstall"
    with pytest.raises(srsdk.BackendError, match=words):
        onnxruntime_cuda.check_provider(session)
    if onnxruntime_cuda.PROVIDER in ort.get_available_providers():
        pytest.skip("the GPU build is installed here")
    with pytest.raises(srsdk.BackendError, match="is the build for CPUs, without CUDAExecution"):
        open_onnxruntime_cuda(models.find("gan_x2"), 0)


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


def test_a_network_on_the_cpu_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """Convolutions on the CPU are the silent fallback; shape arithmetic there is logged only."""
    gpu_name = onnxruntime_cuda.PROVIDER
    with caplog.at_level(logging.INFO, "srsdk"):
        check_nodes({gpu_name: ["Conv", "Clip"], "CPUExecutionProvider": ["Shape", "Shape"]})
    assert "on the CPU: Shape (2)" in caplog.text
    with pytest.raises(srsdk.BackendError, match="runs Conv of this model on the CPU, expected"):
        check_nodes({gpu_name: ["Clip"], "CPUExecutionProvider": ["Conv", "Shape"]})


def test_a_session_says_where_its_nodes_are_and_does_not_fall_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The real library, on the CPU: its record of nodes, and no second try after an error."""
    monkeypatch.setattr(onnxruntime_cuda, "PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    session = onnxruntime_cuda.make_cuda_session(models.find("gan_x2"), {})
    nodes = onnxruntime_cuda._op_types_by_provider(session)
    assert {op for ops in nodes.values() for op in ops} & {"Conv", "FusedConv"}
    assert not session._enable_fallback


def test_a_new_shape_runs_under_the_lock(gpu: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run of a shape is on the compute stream: nobody enqueues meanwhile."""
    held: list[bool] = []
    up, _ = open_late(monkeypatch, models.find("gan_x2"), gpu)
    with up:
        engine: Any = up._engine
        (stream,) = engine._compute_streams
        real = engine.network._session

        def run(*arguments: Any) -> Any:
            held.append(stream.lock.locked())
            return real.run(*arguments)

        session = SimpleNamespace(
            run=run, io_binding=real.io_binding, run_with_iobinding=real.run_with_iobinding
        )
        monkeypatch.setattr(engine.network, "_session", session)
        engine.slot((1, 32, 48, 3)).close()
        monkeypatch.undo()
    assert held == [True]
