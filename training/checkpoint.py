"""Read and write checkpoints: weights and everything else that an exact resume needs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

SCHEMA = "srsdk-training/1"
RENAMED = {
    "optimiser": "optimizer",
    "grey": "gray",
    "grey_noise": "gray_noise",
    "generalised_shape": "generalized_shape",
}
"""New names of recipe keys in files from before 2026-11-29."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or written; the message says what was found."""


def save(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and a JSON-serializable dict to one safetensors file, all or nothing.

    Raises:
        CheckpointError: the file cannot be written, for example because the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    metadata = {"schema": SCHEMA, "facts": json.dumps(facts)}
    try:
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, temporary, metadata)
        os.replace(temporary, path)
    except SafetensorError as error:
        # safetensors reports a full disk as its own error
        raise CheckpointError(f"{path}: cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Raises:
        CheckpointError: the file is missing, damaged, or not written by `save`.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a safetensors file: {error}") from error
    if metadata.get("schema") != SCHEMA:
        raise CheckpointError(f"{path}: schema {metadata.get('schema')!r}, expected {SCHEMA!r}")
    return tensors, _renamed(json.loads(metadata["facts"]))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the averaged weights and the facts of a `weights`, `last` or packed file.

    Weights that `python -m training pack` stored as float16 are returned as float32.
    """
    tensors, facts = load(path)
    tensors = without_prefix("ema", tensors) or tensors
    return {n: t.float() if t.dtype == torch.half else t for n, t in tensors.items()}, facts


def _renamed(facts: Any) -> Any:
    """Return facts with old recipe keys renamed; the shipped weights still contain them."""
    if isinstance(facts, dict):
        return {RENAMED.get(key, key): _renamed(value) for key, value in facts.items()}
    return facts


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Prepend `prefix.` to every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with `prefix.`, without the prefix."""
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's per-parameter state, keyed by `index.name`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, values in state.items()
        for name, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
