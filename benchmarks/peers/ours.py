"""srsdk, as its user calls it."""

from __future__ import annotations

from typing import Any

import srsdk
from benchmarks.peers import Job, Upscale


def default(job: Job) -> Upscale:
    """Nothing chosen."""
    return _open(job)


def onnxruntime(job: Job) -> Upscale:
    """The other backend."""
    return _open(job, backend="onnxruntime")


def bf16(job: Job) -> Upscale:
    """The float32 file, computed in bfloat16."""
    return _open(job, precision="bf16")


def int8(job: Job) -> Upscale:
    """The INT8 file of the same network."""
    return srsdk.Upscaler(f"{job.model}.int8", threads=job.threads)


def tuned(job: Job) -> Upscale:
    """What a trial on this machine chose."""
    return _open(job, tune=True)


def quality(job: Job) -> Upscale:
    """The network of more fidelity, of the same scale."""
    return srsdk.Upscaler(f"{job.model}_quality", threads=job.threads)


def quality_int8(job: Job) -> Upscale:
    """Its INT8 file."""
    return srsdk.Upscaler(f"{job.model}_quality.int8", threads=job.threads)


def engine(job: Job) -> Upscale:
    """The engine file, on the first GPU."""
    assert job.engine is not None
    return srsdk.Upscaler(job.engine)


def _open(job: Job, **options: Any) -> Upscale:
    return srsdk.Upscaler(job.model, threads=job.threads, **options)
