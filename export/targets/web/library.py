"""The files of onnxruntime-web that the folder needs, from npm."""

from __future__ import annotations

import json
from pathlib import Path

from export.errors import ExportError

SOURCES = Path(__file__).parents[2] / "web"
"""The JavaScript package."""
PACKAGE = "onnxruntime-web"
FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
"""For WebAssembly, then for WebGPU; a page loads one of the two."""


def version() -> str:
    """Return the version of onnxruntime-web that the JavaScript package is written for."""
    values = json.loads((SOURCES / "package.json").read_text(encoding="utf-8"))
    return str(values["dependencies"][PACKAGE])


def library_files(folder: Path | None = None) -> dict[str, Path]:
    """Return the files of onnxruntime-web by name.

    Args:
        folder: an installed onnxruntime-web; None: that of the JavaScript package.

    Raises:
        ExportError: it is missing, incomplete or of another version; gives the command.
    """
    root = SOURCES / "node_modules" / PACKAGE if folder is None else folder
    description = root / "package.json"
    wanted = version()
    install = f"npm install {PACKAGE}@{wanted}"
    fix = f"`{install}` in any folder, then --onnxruntime-web node_modules/{PACKAGE}"
    if folder is None:
        fix = f"`npm ci --prefix export/web` in the checkout; or {fix}"
    if not description.is_file():
        where = "export/web/node_modules" if folder is None else str(folder)
        raise ExportError(f"--target web needs {PACKAGE} {wanted}, which is not in {where}: {fix}")
    found = _version_of(description)
    if found != wanted:
        raise ExportError(f"{root} holds {PACKAGE} {found}, expected {wanted}: {fix}")
    files = {name: root / "dist" / name for name in FILES}
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        raise ExportError(f"{root} lacks {', '.join(missing)}: {fix}")
    return files


def _version_of(description: Path) -> str:
    try:
        values = json.loads(description.read_text(encoding="utf-8"))
        return f"{values['version']}" if values["name"] == PACKAGE else f"of {values['name']}"
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{description} is no description of an npm package: {error}") from error
