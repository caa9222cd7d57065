"""Write darktable packages as darktable's own tool does, and others as it does not."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG: Mapping[str, Any] = {
    "id": "upscale-test",
    "name": "upscale test",
    "description": "nearest neighbor",
    "task": "upscale",
    "arch": "nearest",
    "backend": "onnx",
    "version": "1.0",
    "tiling": True,
    "model_card": {
        "author": "A. Botanist",
        "source": "https://example.com",
        "license": "Apache-2.0",
        "training_data": "none",
    },
    "attributes": {"model_x2": {"input_sizes": [32]}, "size_multiple": 4},
}


def write(
    path: Path,
    files: Mapping[str, bytes],
    *,
    config: Mapping[str, Any] | bytes = CONFIG,
    folder: str = "upscale-test",
    method: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """Write a package.

    Args:
        path: the file.
        files: content by name in the package's folder; a name with a leading / is one in the
            archive.
        config: of `config.json`.
        folder: the package's folder.
        method: of compression.
    """
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in sorted({"config.json": text, **files}.items()):
            inside = name[1:] if name.startswith("/") else f"{folder}/{name}"
            archive.writestr(inside, content)
    return path


def short(value: object) -> str | None:
    """Return the name of a test's parameter: of bytes the first ones; None: pytest's own."""
    return f"{value[:12]!r}" if isinstance(value, bytes) else None
