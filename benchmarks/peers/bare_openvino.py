"""Bare OpenVINO at its fastest for one picture: compiled for its exact size, without copies."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.adapters import Job, Picture, Upscale
from srsdk.models import find


def fp32(job: Job) -> Upscale:
    """Compute in float32, as stored in the file."""
    return _open(job, INFERENCE_PRECISION_HINT="f32")


def defaults(job: Job) -> Upscale:
    """Use OpenVINO's defaults: bfloat16 where the processor has it, even for float32 files."""
    return _open(job)


def _open(job: Job, **hints: str) -> Upscale:
    graph = core().read_model(find(job.model))
    graph.reshape([1, job.height, job.width, 3])
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", **hints}
    config["INFERENCE_NUM_THREADS"] = job.threads
    request = core().compile_model(graph, "CPU", config).create_infer_request()

    def upscale(lr: Picture) -> Picture:
        outputs = request.infer({0: lr[None]}, share_inputs=True, share_outputs=True)
        result: Picture = outputs[0][0]
        return result

    return upscale


def requests(path: Path, shape: tuple[int, int, int], threads: int, count: int) -> list[Any]:
    """Return requests that run at the same time, in float32 or the file's INT8.

    Args:
        path: the file.
        shape: (H, W, C) of all pictures.
        threads: CPU threads.
        count: how many requests; OpenVINO chooses its streams for them.
    """
    graph = core().read_model(path)
    graph.reshape([1, *shape])
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY" if count == 1 else "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
    }
    if count > 1:
        config["PERFORMANCE_HINT_NUM_REQUESTS"] = count
    compiled = core().compile_model(graph, "CPU", config)
    return [compiled.create_infer_request() for _ in range(count)]


def tensor(pixels: npt.NDArray[np.uint8]) -> Any:
    """Return OpenVINO's view of an array, without a copy."""
    core()
    import openvino as ov

    return ov.Tensor(pixels, shared_memory=True)


@functools.cache
def core() -> Any:
    """Return the Core; never freed: freed in another thread, it frees this one's signal stack."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # it would phone home
    import openvino as ov

    return ov.Core()
