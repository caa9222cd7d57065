"""Open what `torch.jit.save` and `torch.export.save` write: networks with their code.

TorchScript is a language of its own that torch interprets; it calls torch's operators and nothing
else. A `torch.export` archive is a list of operators and weights, but may hold pickled objects,
which run code when they are read: such archives are refused.
"""

from __future__ import annotations

import dataclasses
import io
import json
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.errors import ExportError
from export.hashing import file_sha256
from export.sources.module import TorchSource, check_finite
from export.sources.user_module import Form, open_module

TORCHSCRIPT, EXPORTED = "TorchScript", "torch.export"


def kind_of(path: Path) -> str:
    """Return `TorchScript` or `torch.export`, by content; empty: the file is neither."""
    if not path.is_file():
        # a pipe would be waited for; whoever opens the file says what it is
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = ["/".join(name.split("/")[1:]) for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ""
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return TORCHSCRIPT
    return EXPORTED if "archive_format" in names and "models/model.json" in names else ""


def open_archive(path: Path, form: Form) -> TorchSource:
    """Open a TorchScript file or a `torch.export` archive.

    Args:
        path: the file.
        form: what is known about the network.

    Raises:
        ExportError: the file is damaged, holds pickled objects, or is no image-to-image network.
    """
    try:
        if kind_of(path) == TORCHSCRIPT:
            network, example = _scripted(path), None
        else:
            network, example = _exported(path)
    except ExportError:
        raise
    except Exception as error:
        # torch raises RuntimeError, KeyError and others for damaged archives
        raise ExportError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error
    if form.example is None:
        form = dataclasses.replace(form, example=example)
    return open_module(network, form, sha256=file_sha256(path))


def _scripted(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, its files are not gone
        load: Callable[..., nn.Module] = torch.jit.load
        loaded = load(path, map_location="cpu").float().eval()
        check_finite(loaded, path.name)
        # the exporters accept no parameters of TorchScript, but constants
        graph = torch.jit.freeze(loaded).graph.copy()
        graph.eraseInput(0)  # the module, which a frozen graph does not use
        return _Callable(torch._C._create_function_from_graph("forward", graph))


def _exported(path: Path) -> tuple[nn.Module, Tensor | None]:
    """Return the network, and the picture that it was recorded with, if the archive keeps it."""
    _check_objects(path)
    program = torch.export.load(path)
    network = program.module()
    # its own refuse evaluation mode, in which it already is
    for name in ("train", "eval"):
        vars(network).pop(name, None)
    network.train = types.MethodType(_keep_mode, network)  # type: ignore[method-assign]
    inputs: Any = program.example_inputs
    first = inputs[0][0] if inputs and inputs[0] else None
    return network, first if isinstance(first, Tensor) and first.ndim == 4 else None


def _keep_mode(network: nn.Module, mode: bool = True) -> nn.Module:
    return network


class _Callable(nn.Module):
    """A TorchScript function, which holds its weights as constants, as a module.

    Args:
        function: maps (N, C, H, W) as the network does.
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self._function = function

    def __deepcopy__(self, memo: dict[int, Any]) -> _Callable:
        return self  # nothing in it changes

    def forward(self, x: Tensor) -> Any:
        """Return what the network returns."""
        return self._function(x)


def _check_objects(path: Path) -> None:
    """Reject pickled objects: `torch.export.load` would run the code that they name."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            part = "/".join(name.split("/")[1:])
            if part.startswith("data/sample_inputs/"):
                try:
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                except Exception as error:
                    # a damaged pickle calls torch's functions with any arguments
                    raise _refused(path, part) from error
            elif part.endswith("_config.json") and _has_objects(archive.read(name)):
                raise _refused(path, part)


def _has_objects(config: bytes) -> bool:
    entries = json.loads(config).get("config", {}).values()
    return any(
        entry.get("use_pickle") or not str(entry.get("path_name", "")).startswith(_PLAIN)
        for entry in entries
    )


_PLAIN = ("weight_", "tensor_")


def _refused(path: Path, part: str) -> ExportError:
    return ExportError(
        f"{path}: {part} holds pickled objects; it is not opened because code in it would be run; "
        "save the network without custom objects, or export the module from Python"
    )
