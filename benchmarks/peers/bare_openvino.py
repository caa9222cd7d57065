"""Bare OpenVINO at its fastest for one picture: compiled for its exact size, without copies."""

from __future__ import annotations

import functools
import sys
from typing import Any

from benchmarks.peers.adapters import Job, Picture, Upscale
from srsdk.models import find


def fp32(job: Job) -> Upscale:
    """Compute in float32, as stored in the file."""
    return _open(job, INFERENCE_PRECISION_HINT="f32")


def defaults(job: Job) -> Upscale:
    """Use OpenVINO's defaults: bfloat16 where the processor has it, even for float32 files."""
    return _open(job)


def _open(job: Job, **hints: str) -> Upscale:
    core = _core()
    graph = core.read_model(find(job.model))
    graph.reshape([1, job.height, job.width, 3])
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", **hints}
    config["INFERENCE_NUM_THREADS"] = job.threads
    request = core.compile_model(graph, "CPU", config).create_infer_request()

    def upscale(lr: Picture) -> Picture:
        outputs = request.infer({0: lr[None]}, share_inputs=True, share_outputs=True)
        result: Picture = outputs[0][0]
        return result

    return upscale


@functools.cache
def _core() -> Any:
    """Return the Core; never freed: freed in another thread, it frees this one's signal stack."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # it would phone home
    import openvino as ov

    return ov.Core()
