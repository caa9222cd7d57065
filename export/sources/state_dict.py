"""Read third-party weights, `.pth` or `.safetensors`, without running code that they hold.

Everything is checked before spandrel sees it: a file of a few bytes may describe tensors of
terabytes, or a network of a billion layers.
"""

from __future__ import annotations

import math
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from export.errors import ExportError
from training import checkpoint

MAX_LEVELS = 4
"""Dicts within dicts; some programs store weights under `params_ema` or `state_dict`."""
MAX_NAMES = 100_000
MAX_INDEX = 10_000
"""Highest number of a layer in a tensor's name."""
MAX_PACKED = 2
"""Contents over size of a file; torch does not compress."""


def read_state(path: Path) -> dict[str, Any]:
    """Return the dict of weights in a file, perhaps within other dicts.

    Raises:
        ExportError: missing, damaged, holds code or something else than weights.
    """
    if not path.is_file():
        raise ExportError(f"{path}: no such file")
    if path.suffix.lower() == ".safetensors":
        try:
            return checkpoint.read_tensors(path)
        except checkpoint.CheckpointError as error:
            raise ExportError(str(error)) from error
    _check_archive(path)
    state = _unpickled(path)
    if not isinstance(state, dict) or not state:
        what = "an empty dict" if isinstance(state, dict) else type(state).__name__
        raise ExportError(f"{path} holds {what}, expected a dict of weights")
    _check_names(path, state, MAX_LEVELS)
    return state


def check_tensors(path: Path, state: dict[str, Any]) -> None:
    """Reject what is not an ordinary tensor of numbers.

    Raises:
        ExportError: names the first entry that is something else.
    """
    for name, value in state.items():
        if problem := _problem(name, value):
            raise ExportError(f"{path}: {name[:100]!r} is {problem}, expected a tensor of numbers")
        indexes = re.findall(r"(?<![^.])\d+(?![^.])", name)
        if any(len(index) > 9 or int(index) > MAX_INDEX for index in indexes):
            raise ExportError(
                f"{path}: {name[:100]!r} numbers a layer beyond {MAX_INDEX}, expected a network of "
                "fewer layers"
            )


def _unpickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ExportError(
            f"{path} holds more than weights, or is damaged; it is not opened because code in it "
            "would be run; save its state_dict as .safetensors"
        ) from error
    except Exception as error:
        # a damaged pickle calls torch's functions with any arguments, so it may raise anything
        first = " ".join(str(error).split())[:200] or type(error).__name__
        raise ExportError(f"{path} is damaged or not a checkpoint: {first}") from error


def _check_archive(path: Path) -> None:
    """Reject an archive that unpacks to much more than its size."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # an older format, or damaged: torch says so
    size = path.stat().st_size
    if unpacked > MAX_PACKED * size:
        raise ExportError(
            f"{path} unpacks to {unpacked:,} bytes from {size:,}, expected an archive that is not "
            "compressed, as torch.save writes it"
        )


def _check_names(path: Path, state: dict[Any, Any], levels: int) -> None:
    if len(state) > MAX_NAMES:
        raise ExportError(f"{path} holds {len(state):,} entries, expected at most {MAX_NAMES:,}")
    for name, value in state.items():
        if not isinstance(name, str):
            raise ExportError(
                f"{path} holds a {type(name).__name__} as a name ({repr(name)[:80]}), expected a "
                "dict of weights by name"
            )
        if isinstance(value, dict):
            if levels == 0:
                raise ExportError(f"{path} holds dicts within dicts, more than {MAX_LEVELS} deep")
            _check_names(path, value, levels - 1)


def _problem(name: str, value: Any) -> str:
    """Return what is wrong with an entry, or ""."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    if value.layout != torch.strided:
        return "a sparse tensor"
    if value.is_quantized or value.is_complex() or value.is_meta:
        return f"a tensor of {value.dtype}" if not value.is_meta else "a tensor without values"
    if name.endswith(("weight", "bias")) and not value.is_floating_point():
        return f"a tensor of {value.dtype}"
    if math.prod(value.shape) * value.element_size() > value.untyped_storage().nbytes():
        return f"a tensor of {tuple(value.shape)} that repeats fewer values"
    return ""
