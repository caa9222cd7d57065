"""Import a network from a Python file or module: `my_nets.py:MyNet`, `package.module:factory`."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from export.errors import ExportError, UsageError
from export.hashing import file_sha256
from export.sources.module import TorchSource
from export.sources.state_dict import check_tensors, read_state
from export.sources.user_module import Form, fingerprint, open_module

NESTED = ("params_ema", "params", "state_dict", "model_state_dict", "model", "net", "generator")
"""Keys under which programs store the weights beside other things."""
SHOWN = 3
"""Names of weights in an error."""


def is_import(text: str) -> bool:
    """Return whether a source names a class or a factory, such as `my_nets.py:MyNet`."""
    place, colon, name = text.rpartition(":")
    return bool(colon) and name.isidentifier() and (place.endswith(".py") or _is_dotted(place))


def _is_dotted(place: str) -> bool:
    return bool(place) and all(part.isidentifier() for part in place.split("."))


def open_import(
    text: str, weights: Path | None, arguments: Mapping[str, Any], form: Form
) -> TorchSource:
    """Import and build a network, and load its weights. The file's code is run.

    Args:
        text: `FILE.py:NAME` or `package.module:NAME`; a class, a factory or a module object.
        weights: a state dict (.pth or .safetensors), read without running code; None: as built.
        arguments: of the class or factory.
        form: what is known about the network.

    Raises:
        ExportError: the code fails, the name is missing, or the weights do not fit.
    """
    place, _, name = text.rpartition(":")
    network = _built(_module(place), name, arguments, text)
    sha256 = fingerprint(network, text)
    if weights is not None:
        load(network, weights)
        sha256 = fingerprint(network, text + file_sha256(weights))
    return open_module(network, form, sha256=sha256)


def load(network: nn.Module, path: Path) -> None:
    """Load a state dict into a network.

    Raises:
        ExportError: names are missing or unexpected, or shapes differ; the message shows some.
    """
    state = _unnested(read_state(path))
    check_tensors(path, state)
    own = network.state_dict()
    if not own.keys() & state.keys():
        # torch.nn.DataParallel and torch.compile put a prefix before each name
        for prefix in ("module.", "_orig_mod.", "model.", "net.", "generator."):
            if any(key.startswith(prefix) for key in state):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
                break
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if state[key].shape != own[key].shape
    ]
    if missing or unexpected or wrong:
        found = [
            f"{len(keys)} {what}: {', '.join(keys[:SHOWN])}{', ...' if len(keys) > SHOWN else ''}"
            for what, keys in (
                ("missing", missing),
                ("unexpected", unexpected),
                ("of another shape", wrong),
            )
            if keys
        ]
        raise ExportError(
            f"{path} does not fit {type(network).__name__} ({'; '.join(found)}): build the network "
            "with the arguments that it was trained with (--arg name=value)"
        )
    network.load_state_dict(state)


def parse_arguments(texts: list[str]) -> dict[str, Any]:
    """Return `--arg name=value` as a dict; values are Python literals, or else text.

    Raises:
        UsageError: one is not of this form.
    """
    arguments: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--arg {text!r}: expected name=value, such as width=64")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


def _module(place: str) -> ModuleType:
    path = Path(place)
    folder = str(path.resolve().parent) if place.endswith(".py") else str(Path.cwd())
    if place.endswith(".py") and not path.is_file():
        raise ExportError(f"{place}: no such file")
    # what stands beside the file can be imported from it
    sys.path.insert(0, folder)
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)
        spec.loader.exec_module(module)
    except Exception as error:
        # the code of someone else may raise anything
        raise ExportError(f"{place} cannot be imported: {_where(error)}") from error
    finally:
        sys.path.remove(folder)
    return module


def _built(module: ModuleType, name: str, arguments: Mapping[str, Any], text: str) -> nn.Module:
    found = getattr(module, name, None)
    if found is None:
        offered = ", ".join(
            key
            for key, value in vars(module).items()
            if inspect.isclass(value)
            and issubclass(value, nn.Module)
            and value.__module__ == module.__name__
        )
        raise ExportError(f"{text}: there is no {name!r}; its networks: {offered or 'none'}")
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise ExportError(f"{text} is {type(found).__name__}, expected a class or a function")
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise ExportError(
            f"{text}{inspect.signature(found)}: {error}; give arguments with --arg name=value"
        ) from error
    try:
        network = found(**arguments)
    except Exception as error:
        # the code of someone else may raise anything
        raise ExportError(f"{text} cannot be built: {_where(error)}") from error
    if not isinstance(network, nn.Module):
        raise ExportError(f"{text} returns {type(network).__name__}, expected a torch.nn.Module")
    return network


def _unnested(state: dict[str, Any]) -> dict[str, Any]:
    for key in NESTED:
        inner = state.get(key)
        if isinstance(inner, dict) and any(isinstance(value, Tensor) for value in inner.values()):
            return inner
    return state


def _where(error: Exception) -> str:
    """Return the error with the file and line that raised it."""
    text = " ".join(str(error).split())[:200]
    frames = traceback.extract_tb(error.__traceback__)
    last = next((f for f in reversed(frames) if "importlib" not in f.filename), None)
    place = f" ({Path(last.filename).name}:{last.lineno})" if last is not None else ""
    return f"{type(error).__name__}: {text}{place}"
