"""Open third-party weights, `.pth` or `.safetensors`; spandrel detects the architecture."""

from __future__ import annotations

import logging
import sys
from enum import Enum
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from export.errors import ExportError
from export.graph.attempts import FIXED_PX
from export.hashing import file_sha256
from export.sources.module import TorchSource, torch_source
from export.sources.state_dict import check_tensors, read_state

log = logging.getLogger(__name__)

NOISE_LEVEL = 15
"""Of 255: what denoisers with a noise map are told, as by spandrel."""


def open_third_party(path: Path) -> TorchSource:
    """Open weights of any architecture that spandrel supports; no code in the file is run.

    Raises:
        ExportError: spandrel is not installed, the file is damaged or holds code, the architecture
            is unknown, or it is not an image-to-image network.
    """
    state = read_state(path)
    spandrel = import_spandrel()
    try:
        state = spandrel.canonicalize_state_dict(state)
        check_tensors(path, state)
        model = spandrel.ModelLoader().load_from_state_dict(state)
    except ExportError:
        raise
    except Exception as error:
        # spandrel guesses from names and shapes, and raises whatever a wrong guess leads to
        raise ExportError(
            f"{path}: spandrel knows no architecture with these weights "
            f"({len(state)} tensors): {_reason(error)}"
        ) from error
    _check(path, model, spandrel)
    try:
        return _source_of(path, model)
    except ExportError:
        raise
    except (RuntimeError, ValueError, LookupError, TypeError) as error:
        name = model.architecture.name
        raise ExportError(
            f"{path}: {name} with these weights does not run: {_reason(error)}"
        ) from (error)


def _source_of(path: Path, model: Any) -> TorchSource:
    return torch_source(
        SpandrelNetwork(model),
        name=path.stem,
        family="foreign",
        scale=model.scale,
        channels=model.input_channels,
        multiple_px=int(model.size_requirements.multiple_of),
        minimum_px=max(int(model.size_requirements.minimum), 1),
        size_px=_only_size(model),
        sha256=file_sha256(path),
        architecture=model.architecture.name,
    )


def _only_size(model: Any) -> tuple[int, int] | None:
    """Return the size of a network that takes square pictures only; tiles have one size."""
    required = model.size_requirements
    if model.architecture.id == "GFPGAN":
        return (int(required.minimum),) * 2
    if not required.square:
        return None
    multiple = int(required.multiple_of)
    side = -(-max(int(required.minimum), FIXED_PX) // multiple) * multiple
    return (side, side)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class SpandrelNetwork(nn.Module):
    """Call a network as spandrel does: some need a factor, or return several results.

    Args:
        model: spandrel's `ImageModelDescriptor`. Its own call pads, clamps and prevents tracing,
            so this class calls the inner function.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.model
        self._call = model._call_fn
        first = next((m for m in self.model.modules() if isinstance(m, nn.Conv2d)), None)
        self._takes_noise = (
            model.architecture.id in ("DRUNet", "DnCNN")
            and first is not None
            and first.in_channels == model.output_channels + 1
        )
        _fold_once(self.model)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) floats 0..1 to (N, C, H * scale, W * scale)."""
        if self._takes_noise:
            # as spandrel, whose map has a batch of 1
            noise = torch.full_like(x[:, :1], NOISE_LEVEL / 255)
            result: Tensor = self.model(torch.cat([x, noise], dim=1))
        else:
            result = self._call(self.model, x)
        return result


def _fold_once(net: nn.Module) -> None:
    """Fold SPAN's branches into one convolution now instead of in each call.

    SPAN writes weights in its forward pass; torch's exporter ends the process if a traced network
    does this (seen with torch 2.13).
    """
    for module in net.modules():
        fold: Any = getattr(module, "update_params", None)
        if callable(fold):
            with torch.no_grad():
                fold()
            vars(module)["update_params"] = _do_nothing


def _do_nothing() -> None:
    """Leave the weights unchanged."""


def import_spandrel() -> Any:
    """Return the module `spandrel`.

    Raises:
        ExportError: it is not installed.
    """
    _stub_torchvision()
    try:
        import spandrel
    except (ImportError, RuntimeError) as error:
        raise ExportError(
            f"third-party weights need spandrel ({error}): pip install 'srsdk[foreign]'"
        ) from error
    return spandrel


def _stub_torchvision() -> None:
    """Stub torchvision if it is missing or built for another torch, so spandrel can be imported.

    spandrel needs only three of its names: two for an inpainting network, which is refused anyway,
    and `normalize`. The build of torchvision on PyPI does not load with a CPU build of torch.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        log.info("torchvision cannot be loaded (%s); networks that need it will not run", error)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            module: Any = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            module.InterpolationMode = _Interpolation
            module.rotate, module.normalize = _missing, _normalize
            sys.modules[name] = module


class _Interpolation(Enum):
    NEAREST, BILINEAR = "nearest", "bilinear"


def _normalize(x: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """Return (x - mean) / std by channel, (N, C, H, W)."""
    shape = (1, -1, 1, 1)
    return (x - torch.tensor(mean).view(shape).to(x)) / torch.tensor(std).view(shape).to(x)


def _missing(*_: Any, **__: Any) -> Any:
    raise ExportError(
        "this network needs torchvision: pip install the torchvision build for your torch"
    )


def _check(path: Path, model: Any, spandrel: Any) -> None:
    name = model.architecture.name
    if not isinstance(model, spandrel.ImageModelDescriptor):
        raise ExportError(
            f"{path}: {name} takes more than a picture, expected an image-to-image network"
        )
    if model.input_channels != model.output_channels or model.input_channels not in (1, 3, 4):
        raise ExportError(
            f"{path}: {name} maps {model.input_channels} channels to {model.output_channels}, "
            "expected 3 to 3, 1 to 1 or 4 to 4"
        )
