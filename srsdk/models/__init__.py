"""The models that are shipped with srsdk, and finding one by name or path."""

from __future__ import annotations

import os
from pathlib import Path

from srsdk.errors import ModelError

FOLDER = Path(__file__).parent
SUFFIXES = (".onnx", ".engine")


def shipped() -> list[str]:
    """Return the names of the shipped models, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.onnx"))


def find(model: str | os.PathLike[str]) -> Path:
    """Return the file of a shipped name or of a path.

    Raises:
        ModelError: neither a shipped name nor a path to a file that exists.
    """
    path = Path(model)
    if path.suffix in SUFFIXES or len(path.parts) > 1 or isinstance(model, os.PathLike):
        if path.is_dir():
            raise ModelError(f"{path} is a folder, expected a model file")
        if not path.is_file():
            raise ModelError(f"{path}: no such model file")
        if path.suffix not in SUFFIXES:
            raise ModelError(f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}")
        return path
    if model not in shipped():
        raise ModelError(
            f"{str(model)!r} is no shipped model; there are {', '.join(shipped()) or 'none'}; "
            "a file is given by its path, such as ./my_model.onnx"
        )
    return FOLDER / f"{model}.onnx"
