"""Weights as they are published: float16, half the size, the same schema."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from training import checkpoint
from training.loop import load_weights


def pack(weights: Path, out: Path, *, force: bool = False) -> None:
    """Write a run's averaged weights as float16, all or nothing.

    `load_weights` reads them as float32. The facts keep recipe and step, and name the hash of the
    file that was packed, which is what a model exported from that file carries.

    Args:
        weights: `weights` or `last` of a run.
        out: the file to write.
        force: replace `out` where it exists.

    Raises:
        checkpoint.CheckpointError: `weights` is no checkpoint, holds a weight that float16 cannot,
            or `out` is there already.
    """
    if out.exists() and not force:
        raise checkpoint.CheckpointError(f"{out} exists; --force replaces it")
    tensors, facts = load_weights(weights)
    source = hashlib.sha256(weights.read_bytes()).hexdigest()
    halved = {name: _half(weights, name, tensor) for name, tensor in tensors.items()}
    kept = {name: facts[name] for name in ("recipe", "step")}
    checkpoint.save(out, halved, {**kept, "source_sha256": source})


def _half(path: Path, name: str, tensor: Tensor) -> Tensor:
    """Round to float16; counts and flags stay what they are."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not torch.isfinite(half).all():
        raise checkpoint.CheckpointError(f"{path}: {name} holds a weight beyond float16 (65504)")
    return half
