"""Convert weights for publishing: float16, half the size, the same schema."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from training import checkpoint
from training.checkpoint import load_weights


def pack(weights: Path, out: Path, *, force: bool = False) -> None:
    """Write a run's averaged weights as float16, all or nothing.

    `load_weights` returns them as float32. The facts keep the recipe and the step, and add the
    SHA-256 of the source file, which a model exported from that file also contains.

    Args:
        weights: `weights.safetensors` or `last.safetensors` of a run.
        out: the file to write.
        force: overwrite an existing `out`.

    Raises:
        checkpoint.CheckpointError: `weights` is not a checkpoint or holds a weight beyond the range
            of float16, or `out` exists.
    """
    if out.exists() and not force:
        raise checkpoint.CheckpointError(f"{out} exists; --force replaces it")
    tensors, facts = load_weights(weights)
    source = hashlib.sha256(weights.read_bytes()).hexdigest()
    halved = {name: _half(weights, name, tensor) for name, tensor in tensors.items()}
    kept = {name: facts[name] for name in ("recipe", "step")}
    checkpoint.save(out, halved, {**kept, "source_sha256": source})


def _half(path: Path, name: str, tensor: Tensor) -> Tensor:
    """Round floating-point tensors to float16; leave others unchanged."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not torch.isfinite(half).all():
        raise checkpoint.CheckpointError(f"{path}: {name} holds a weight beyond float16 (65504)")
    return half
