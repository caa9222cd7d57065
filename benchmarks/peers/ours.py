"""srsdk, as users call it."""

from __future__ import annotations

from typing import Any

import srsdk
from benchmarks.peers.adapters import Job, Upscale


def float32(job: Job) -> Upscale:
    """Use the float32 file, which the libraries beside it run too."""
    return _open(job)


def default(job: Job) -> Upscale:
    """Open the name of the model without options: on a CPU, the INT8 file."""
    return srsdk.Upscaler(job.model, threads=job.threads)


def onnxruntime(job: Job) -> Upscale:
    """Use the ONNX Runtime backend."""
    return _open(job, backend="onnxruntime")


def bf16(job: Job) -> Upscale:
    """Compute the float32 file in bfloat16."""
    return _open(job, precision="bf16")


def int8(job: Job) -> Upscale:
    """Use the INT8 file of the same network."""
    return srsdk.Upscaler(f"{job.model}.int8", threads=job.threads)


def tuned(job: Job) -> Upscale:
    """Use what `srsdk tune` chooses on this machine."""
    return _open(job, tune=True)


def quality(job: Job) -> Upscale:
    """Use the higher-quality network of the same scale."""
    return srsdk.Upscaler(f"{job.model}_quality", threads=job.threads, precision="fp32")


def quality_int8(job: Job) -> Upscale:
    """Use the INT8 file of the higher-quality network."""
    return srsdk.Upscaler(f"{job.model}_quality.int8", threads=job.threads)


def engine(job: Job) -> Upscale:
    """Use the engine file on the first GPU."""
    assert job.engine is not None
    return srsdk.Upscaler(job.engine)


def _open(job: Job, **options: Any) -> Upscale:
    # a name alone would open the INT8 file
    return srsdk.Upscaler(srsdk.models.find(job.model), threads=job.threads, **options)
