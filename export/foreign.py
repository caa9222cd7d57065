"""Other people's weights: `.pth` and `.safetensors`; spandrel detects what they are."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from export.onnx_file import ExportError
from export.options import file_sha256
from export.sources import TorchSource, torch_source


def open_foreign(path: Path) -> TorchSource:
    """Open weights of any architecture that spandrel knows; never runs code out of the file.

    Raises:
        ExportError: spandrel is not installed, the file is damaged or holds code, the architecture
            is unknown, or it is no network from picture to picture.
    """
    state = _load(path)
    spandrel = _import_spandrel()
    try:
        model = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(state))
    except (spandrel.UnsupportedModelError, KeyError, RuntimeError, AttributeError) as error:
        first = " ".join(str(error).split())[:200]
        raise ExportError(
            f"{path}: spandrel knows no architecture with these weights "
            f"({len(state)} tensors): {first}"
        ) from error
    _check(path, model, spandrel)
    return torch_source(
        model.model,
        name=path.stem,
        family="foreign",
        scale=model.scale,
        channels=model.input_channels,
        multiple_px=model.size_requirements.multiple_of,
        sha256=file_sha256(path),
        architecture=model.architecture.name,
    )


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ExportError(f"{path}: no such file")
    try:
        if path.suffix.lower() == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ExportError(
            f"{path} holds more than weights, or is damaged, and is not opened: code in a "
            "checkpoint would be run; save its state_dict as .safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        first = " ".join(str(error).split())[:200]
        raise ExportError(f"{path} is damaged or no checkpoint: {first}") from error
    if not isinstance(state, dict) or not state:
        raise ExportError(f"{path} holds {type(state).__name__}, expected a table of weights")
    return state


def _import_spandrel() -> Any:
    try:
        import spandrel
    except ImportError as error:
        raise ExportError(
            f"foreign weights need spandrel ({error}): pip install 'srsdk[foreign]'"
        ) from error
    return spandrel


def _check(path: Path, model: Any, spandrel: Any) -> None:
    name = model.architecture.name
    if not isinstance(model, spandrel.ImageModelDescriptor):
        raise ExportError(f"{path}: {name} takes more than a picture, expected picture to picture")
    if model.input_channels != model.output_channels or model.input_channels not in (1, 3):
        raise ExportError(
            f"{path}: {name} maps {model.input_channels} channels to {model.output_channels}, "
            "expected 3 to 3 or 1 to 1"
        )
    if model.size_requirements.square:
        raise ExportError(f"{path}: {name} takes square pictures only, which tiles cannot be")
