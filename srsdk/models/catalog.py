"""What each shipped model is for, and what its files say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from srsdk.errors import ModelError
from srsdk.manifest import Manifest, read_manifest
from srsdk.models import FOLDER, shipped

PURPOSES: Mapping[str, str] = MappingProxyType(
    {
        "ae_x1": "noise and JPEG damage, at the same size",
        "drawing_x4": "comics, charts, screenshots",
        "gan_x2": "photographs, fidelity; the default of x2",
        "gan_x2_quality": "photographs, fidelity; four times the weights",
        "gan_x2_quality_texture": "photographs, texture; four times the weights",
        "gan_x2_texture": "photographs, texture; texture= mixes it with gan_x2",
        "gan_x4": "photographs, fidelity; the default",
        "gan_x4_quality": "photographs, fidelity; two layers more",
        "gan_x4_quality_texture": "photographs, texture; two layers more",
        "gan_x4_texture": "photographs, texture; texture= mixes it with gan_x4",
        "realtime_x2": "video in real time; luma only",
        "realworld_x4": "blurred, noisy and compressed photographs",
        "vae_x4": "photographs; samples and their confidence",
    }
)
"""What each shipped model is for, by name."""
_FORMS = {"": "fp32", "fp16": "fp16", "int8": "int8", "int8.gpu": "int8.gpu"}


@dataclass(frozen=True)
class ModelInfo:
    """A shipped model: one network, in one file for each precision."""

    name: str
    """What `Upscaler` takes."""
    purpose: str
    """What it is for, in a few words."""
    scale: int
    """Output size over input size."""
    channels: int
    """3: RGB; 1: luma, and color is enlarged by interpolation."""
    precisions: tuple[str, ...]
    """Precisions that have a file: `fp32`, `fp16`, `int8` (CPUs) and `int8.gpu` (GPUs)."""
    size_bytes: int
    """Size of the float32 file."""
    psnr_y_db: Mapping[str, float]
    """PSNR on luma in dB, by test set."""
    license: str
    """License of the weights, as an SPDX identifier, with its conditions."""
    training_data: str
    """What the weights were learned from, and on what terms."""


def list_models() -> list[ModelInfo]:
    """Return all shipped models, sorted by name.

    Raises:
        ModelError: a model file of the installation is damaged.
    """
    files = shipped()
    return [_info(name, files) for name in files if "." not in name]


def _info(name: str, files: list[str]) -> ModelInfo:
    path = FOLDER / f"{name}.onnx"
    manifest = read_manifest(path)
    if manifest is None:
        raise ModelError(f"{path} carries no manifest; install srsdk again")
    forms = [form for form in _FORMS if (f"{name}.{form}" if form else name) in files]
    return ModelInfo(
        name,
        PURPOSES.get(name, ""),
        manifest.scale,
        manifest.channels,
        tuple(_FORMS[form] for form in forms),
        path.stat().st_size,
        MappingProxyType(_psnr(manifest)),
        manifest.licence,
        manifest.training_data,
    )


def _psnr(manifest: Manifest) -> dict[str, float]:
    return {
        name: score["psnr_y_db"] for name, score in manifest.scores.items() if "psnr_y_db" in score
    }
