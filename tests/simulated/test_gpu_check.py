"""The sections of `gpu-check` that need PyTorch on a GPU, rehearsed before one is at hand.

PyTorch computes on the CPU, in kernels of the simulated GPU; its tensors and streams are stand-ins
with the methods that the sections use. What is shown is that the code of the sections runs and
that its checks hold, not that PyTorch works.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from srsdk.engines.cuda.device import Device
from tests.simulated.fixtures import OnGpuByDlpack, read
from tests.simulators.cuda import Simulator

torch: Any = pytest.importorskip("torch", reason="needs torch")

from benchmarks.gpu import measure, sections, torch_engine  # noqa: E402 - they import torch
from benchmarks.gpu.job import Job, Setup  # noqa: E402


class GpuTensor(OnGpuByDlpack):
    """A tensor on the simulated GPU."""

    made: list[GpuTensor]

    def __init__(self, gpu: Simulator, pixels: Any) -> None:
        super().__init__(gpu, pixels)
        self.made.append(self)

    def cpu(self) -> Any:
        """Return a tensor on the CPU."""
        return torch.from_numpy(self.read())


class Torch:
    """PyTorch as a section sees it."""

    def __init__(self, gpu: Simulator) -> None:
        self._gpu = gpu
        self.cuda = SimpleNamespace(synchronize=self._synchronize, empty_cache=lambda: None)
        self.utils = SimpleNamespace(dlpack=SimpleNamespace(from_dlpack=self._from_dlpack))

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def from_numpy(self, pixels: Any) -> Any:
        """Return a CPU tensor whose `cuda` puts it on the simulated GPU."""
        return SimpleNamespace(cuda=lambda: GpuTensor(self._gpu, pixels))

    def empty(self, shape: Any, **_: Any) -> GpuTensor:
        """Return a tensor on the simulated GPU."""
        return GpuTensor(self._gpu, np.zeros(shape, np.uint8))

    def _synchronize(self) -> None:
        device = Device(0)
        with device.active():
            device.synchronize()

    def _from_dlpack(self, array: Any) -> Any:
        return SimpleNamespace(cpu=lambda: torch.from_numpy(read(self._gpu, array)))


def run_late(gpu: Simulator) -> Callable[[Any, int], None]:
    """Return a replacement of `TorchRun.enqueue` that computes when the stream gets there."""

    def enqueue(run: Any, stream: int) -> None:
        source, target = run.addresses

        def compute() -> None:
            shapes = run._shape, run.output_shape
            image, large = (
                gpu.content(address, int(np.prod(shape))).reshape(shape)
                for address, shape in zip((source, target), shapes, strict=True)
            )
            with torch.inference_mode():
                large[...] = run._module(torch.from_numpy(image)).numpy()

        assert gpu.kernel(stream, compute) == 0

    return enqueue


@pytest.fixture
def job(gpu: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    """A section's job, with PyTorch replaced and small pictures."""
    GpuTensor.made = []
    bind = lambda run, source, target, _: setattr(run, "addresses", (source, target))  # noqa: E731
    monkeypatch.setattr(torch_engine.TorchRun, "bind", bind)
    monkeypatch.setattr(torch_engine.TorchRun, "enqueue", run_late(gpu))
    monkeypatch.setattr(torch_engine, "_on", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch_engine, "_zeros", lambda shape: torch.zeros(shape, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    load = torch_engine.load
    monkeypatch.setattr(sections, "load", lambda name, _: load(name, torch.float32, "cpu"))
    monkeypatch.setattr(sections, "torch", Torch(gpu))
    monkeypatch.setattr(sections, "picture", lambda *_: measure.picture(70, 90))
    monkeypatch.setattr(sections, "TILE_PX", 48)
    yield Job(Setup(out=tmp_path), 60)
    for tensor in GpuTensor.made:
        tensor.close()


def failed(job: Job) -> list[str]:
    """Return the statements that do not hold."""
    return [check["what"] for check in job.checks if not check["holds"]]


def test_slots(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact for all sizes, from the host and on the device."""
    sections.slots(job)
    assert failed(job) == []
    assert job.found["pictures"] == 2 * 3 * 20


def test_release(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cycle loses memory."""
    cycles = measure.cycles
    monkeypatch.setattr(measure, "cycles", lambda device, once: cycles(device, once, 5))
    sections.release(job)
    assert failed(job) == []


def test_graphs(job: Job) -> None:
    """A graph is captured where it is asked for, and gives the same picture.

    Whether copies are hidden is a matter of a real GPU's time.
    """
    sections.graphs(job)
    assert set(failed(job)) <= {"graph: copies are hidden", "no_graph: copies are hidden"}
    assert (job.found["graph"]["has_graph"], job.found["no_graph"]["has_graph"]) == (True, False)


def test_end_to_end(job: Job) -> None:
    """Device to device gives the picture of numpy to numpy."""
    sections.end_to_end(job)
    assert failed(job) == []
    assert job.found["device_ms"] > 0


def test_sweep(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row has its time."""
    monkeypatch.setattr(itertools, "product", lambda *_: [(48, 1, 2, 1), (48, 4, 1, 1)])
    sections.sweep(job)
    assert len(job.found["rows"]) == 3


def test_under_the_sanitizer(job: Job) -> None:
    """What runs under compute-sanitizer is exact."""
    sections.sanitized(job)
    assert failed(job) == []
