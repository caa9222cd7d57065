"""Write a folder that any static server can serve: `python -m export NAME --target web -o FOLDER`.

    FOLDER/index.html             the page; its script and style are in demo/
    FOLDER/srsdk/                 the JavaScript module and its worker
    FOLDER/models/gan_x2.onnx     the models; gan_x2.json and index.json say what JavaScript needs
    FOLDER/ort/                   onnxruntime-web
    FOLDER/_headers               headers for hosts that read this file (Netlify, Cloudflare Pages)

The JavaScript sources are those of `export/web`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import ExportError, UsageError
from export.hashing import file_sha256
from export.targets.atomic_output import Staging
from export.targets.web.library import SOURCES, library_files, version
from export.targets.web.models import REALTIME, WebFile, WebModel, open_models

EXAMPLE = SOURCES.parents[1] / "samples" / "astronaut.png"
NOT_IN_BROWSERS = ("node.js",)
INDEX = "index.html"


@dataclass(frozen=True)
class Site:
    """A written folder."""

    folder: Path
    """The folder."""
    models: tuple[WebModel, ...]
    """Its models; the first is the module's default."""
    sizes: Mapping[str, int]
    """Bytes by file name, relative to the folder."""
    up_to_date: bool
    """Whether all files were there before."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `--json`."""
        return {
            "folder": str(self.folder),
            "models": [model.name for model in self.models],
            "onnxruntime_web": version(),
            "up_to_date": self.up_to_date,
            "bytes": dict(self.sizes),
        }

    def __str__(self) -> str:
        """Return one line for each model file and for each form of the library."""
        done = "is up to date" if self.up_to_date else "is written"
        lines = [
            f"{file.name}  x{file.manifest.scale}  {self.sizes[f'models/{file.name}.onnx']:,} "
            f"bytes  overlap {file.manifest.radius_px} px"
            for file in _files(self.models)
        ]
        wasm = [name for name in self.sizes if name.endswith(".wasm")]
        lines += [f"{name}  {self.sizes[name]:,} bytes" for name in wasm]
        lines.append(f"{self.folder}: {sum(self.sizes.values()):,} bytes, {done}")
        return "\n".join(lines)


def write_site(
    sources: Sequence[str],
    output: str | Path,
    *,
    onnxruntime_web: Path | None = None,
    force: bool = False,
    staging: Staging | None = None,
) -> Site:
    """Write the folder; all files appear, or none.

    Args:
        sources: names of shipped or fetched models, or paths of model files.
        output: the folder, created if missing; other files in it are kept.
        onnxruntime_web: an installed onnxruntime-web; None: that of `export/web`.
        force: replace files that differ.
        staging: tells the caller whether the files were published before an interrupt.

    Raises:
        UsageError: the output is no folder's name, or the sources are no model files.
        ExportError: a browser cannot run a model, onnxruntime-web is missing, or files differ.
        srsdk.SrsdkError: a model cannot be found or read.
    """
    folder = _folder(output)
    models = open_models(sources)
    contents = _contents(models, library_files(onnxruntime_web))
    stale = [name for name, source in contents.items() if not _is_current(folder / name, source)]
    taken = [name for name in stale if (folder / name).exists()]
    if taken and not force:
        raise ExportError(f"{folder / taken[0]} exists and differs; --force replaces it")
    with staging or Staging() as staged:
        for name in stale:
            source, path = contents[name], staged.path(folder / name)
            if isinstance(source, bytes):
                path.write_bytes(source)
            else:
                shutil.copyfile(source, path)
        staged.publish()
    sizes = {name: (folder / name).stat().st_size for name in contents}
    return Site(folder, tuple(models), sizes, not stale)


def _folder(output: str | Path) -> Path:
    folder = Path(output)
    if folder.suffix in (".onnx", ".engine", ".html"):
        raise UsageError(f"{folder}: --target web writes a folder, such as -o site/")
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise ExportError(f"{path} is a file, expected a folder")
    return folder


def _contents(models: Sequence[WebModel], library: Mapping[str, Path]) -> dict[str, bytes | Path]:
    """Return what each file holds: bytes, or the file to copy. The page is first, so renamed last.

    The index and the headers are before the files that they name, for the same reason.
    """
    demo, source = SOURCES / "demo", SOURCES / "srsdk"
    contents: dict[str, bytes | Path] = {INDEX: demo / INDEX}
    names = ("demo.js", "view.js", "demo.css", "icon.svg")
    contents |= {f"demo/{name}": demo / name for name in names}
    contents["_headers"] = demo / "_headers"
    contents["models/index.json"] = _json(_index(models))
    for file in _files(models):
        contents[f"models/{file.name}.json"] = _json(file.to_dict())
        contents[f"models/{file.name}.onnx"] = file.path
    for path in sorted(source.glob("*.js")):
        if path.name not in NOT_IN_BROWSERS:
            contents[f"srsdk/{path.name}"] = path
    contents |= {f"ort/{name}": path for name, path in library.items()}
    contents["ort/LICENSE.txt"] = SOURCES / "onnxruntime-license.txt"
    contents["LICENSE.txt"] = SOURCES / "LICENSE"
    contents["demo/example.png"] = EXAMPLE
    return contents


def _index(models: Sequence[WebModel]) -> dict[str, Any]:
    return {
        "default": models[0].name,
        "realtime": REALTIME,
        "models": [model.to_dict() for model in models],
    }


def _files(models: Sequence[WebModel]) -> list[WebFile]:
    """Return the files of all models, each once."""
    return list({file.name: file for model in models for file in model.files}.values())


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _is_current(path: Path, source: bytes | Path) -> bool:
    if not path.is_file():
        return False
    if isinstance(source, bytes):
        return path.read_bytes() == source
    return file_sha256(path) == file_sha256(source)
