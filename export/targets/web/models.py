"""Which models a browser can run, and what JavaScript is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import ExportError, UsageError
from export.hashing import file_sha256
from srsdk import models
from srsdk.autotune.forms import int8_file
from srsdk.formats.tensorrt_plan import PLAN_SUFFIX
from srsdk.manifest import Manifest, read_manifest

REALTIME = "realtime_x2"
"""Goes along with every export, in 70 kB: the page opens it first, and it enlarges videos."""


@dataclass(frozen=True)
class WebFile:
    """One model file of the folder."""

    name: str
    """Its name without `.onnx`, such as `gan_x2.int8`."""
    path: Path
    """Where it is copied from."""
    manifest: Manifest
    """Its metadata."""

    def to_dict(self) -> dict[str, Any]:
        """Return what JavaScript reads: the type `Manifest` of `export/web/srsdk/manifest.js`."""
        m = self.manifest
        return {
            "name": self.name,
            "file": f"{self.name}.onnx",
            "bytes": self.path.stat().st_size,
            "sha256": file_sha256(self.path),
            "scale": m.scale,
            "channels": m.channels,
            "dtype": m.dtype,
            "layout": m.layout,
            "radius_px": m.radius_px,
            "multiple_px": m.multiple_px,
            "size_px": m.size_px,
            "precision": m.precision,
            "probe": None if m.probe is None else m.probe.to_dict(),
            "licence": m.licence,
            "training_data": m.training_data,
        }


@dataclass(frozen=True)
class WebModel:
    """One model: a file, and for a float32 file the INT8 form that lies beside it.

    As `srsdk.Upscaler` does on processors, JavaScript takes the INT8 form with WebAssembly.
    """

    files: tuple[WebFile, ...]
    """The named file first."""

    @property
    def name(self) -> str:
        """Name of the model: that of its first file."""
        return self.files[0].name

    def to_dict(self) -> dict[str, Any]:
        """Return the model's entry in `index.json`."""
        forms = {file.manifest.precision: file.name for file in self.files}
        return {"name": self.name, "scale": self.files[0].manifest.scale, "forms": forms}


def open_models(sources: Sequence[str]) -> list[WebModel]:
    """Find and check the models, and add the realtime one.

    Args:
        sources: names of shipped or fetched models, or paths of model files.

    Raises:
        UsageError: weights instead of a model file, or two files of one name.
        ExportError: a browser cannot run the model; the message says why, and the fix.
        srsdk.ModelError, srsdk.ManifestError: no such model, or a damaged file.
    """
    files: dict[str, WebFile] = {}
    found: dict[str, WebModel] = {}
    for source in (*sources, REALTIME):
        path = _path(source)
        beside = int8_file(path)
        forms = [_opened(form, files) for form in (path, beside) if form is not None]
        found[forms[0].name] = WebModel(tuple(forms))
    return list(found.values())


def _opened(path: Path, files: dict[str, WebFile]) -> WebFile:
    """Check a file once, and that no other file has its name."""
    name = path.name.removesuffix(".onnx")
    known = files.setdefault(name, WebFile(name, path, _checked(path)))
    if file_sha256(known.path) != file_sha256(path):
        raise UsageError(f"{known.path} and {path} have the same name: rename one of them")
    return known


def _path(source: str) -> Path:
    suffix = Path(source).suffix
    if suffix in (".safetensors", ".pth", ".pt", ".pt2", ".ckpt", ".py"):
        raise UsageError(
            f"{source} holds weights, and --target web takes finished models: export it first, "
            f"`python -m export {source} -o models/`, then name the .onnx file"
        )
    path = models.find(source)
    if path.suffix == PLAN_SUFFIX:
        raise ExportError(
            f"{path.name} is a TensorRT engine, which no browser can run: name the .onnx file that "
            "it was built from"
        )
    return path


def _checked(path: Path) -> Manifest:
    """Return the manifest of a model that browsers can run."""
    manifest = read_manifest(path)
    if manifest is None:
        raise ExportError(
            f"{path.name} has no manifest, so its scale and overlap are not known: "
            f"`python -m export {path} -o models/` writes a file that has one"
        )
    if why := _refusal(manifest):
        raise ExportError(f"{path.name} cannot run in a browser: {why}")
    return manifest


def _refusal(m: Manifest) -> str:
    """Return why a browser cannot run a model, and the fix; "" if it can."""
    if m.tiling in ("bounded", "none"):
        return (
            f"its network sees the whole picture (tiling {m.tiling!r}), so no tiles bound the "
            "memory of a page; use a model whose tiling is exact, such as gan_x2"
        )
    if m.family == "vae":
        return "it draws samples (family vae); use a model that returns one result, such as gan_x4"
    if m.inputs:
        return (
            f"it takes {', '.join(m.inputs)} beside the picture, which the page has no controls "
            "for; use a model without further inputs, such as gan_x2"
        )
    if m.precision == "fp16":
        return (
            "it is float16, which WebAssembly computes in float32 and WebGPU has not been tested "
            "with; use the float32 file"
        )
    if m.flavour == "gpu":
        return "it is INT8 in the form of TensorRT; use the .int8.onnx file for processors"
    if (m.dtype, m.layout) != ("uint8", "NHWC") or m.channels not in (1, 3):
        return (
            f"it takes {m.dtype} {m.layout} with {m.channels} channels, expected uint8 NHWC with 1 "
            "or 3: `python -m export FILE -o models/` writes that boundary"
        )
    return ""
