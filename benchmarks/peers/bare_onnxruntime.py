"""Bare ONNX Runtime with its defaults, except for the number of threads."""

from __future__ import annotations

import os

from benchmarks.peers.adapters import Job, Picture, Upscale
from srsdk.models import find


def open_it(job: Job) -> Upscale:
    """Open a session."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(
        find(job.model), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def upscale(lr: Picture) -> Picture:
        result: Picture = session.run(None, {name: lr[None]})[0][0]
        return result

    return upscale
