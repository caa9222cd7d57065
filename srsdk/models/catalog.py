"""All models that have a name: what each is for, where it comes from, and on what terms."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from srsdk.errors import ModelError
from srsdk.manifest import Manifest, read_manifest
from srsdk.models import FOLDER, SUFFIXES, lookup, shipped
from srsdk.models.cards import Card
from srsdk.models.terms import may_be_shipped

log = logging.getLogger("srsdk")

PURPOSES: Mapping[str, str] = MappingProxyType(
    {
        "ae_x1": "noise and JPEG damage, same size",
        "gan_x2": "photographs, fidelity; the default of x2",
        "gan_x2_quality": "photographs, fidelity; six layers more",
        "gan_x2_texture": "photographs, texture; for texture= of gan_x2",
        "gan_x4": "photographs, fidelity; the default",
        "gan_x4_quality": "photographs, fidelity; four layers more",
        "gan_x4_texture": "photographs, texture; for texture= of gan_x4",
        "realtime_x2": "video in real time; luma only",
        "realtime_x4": "video in real time; luma only",
        "realworld_x2": "blurred, noisy and compressed photographs",
        "realworld_x4": "blurred, noisy and compressed photographs",
        "vae_x4": "photographs; samples and their confidence",
    }
)
"""What each shipped model is for, by name."""
_FORMS = {"": "fp32", "fp16": "fp16", "int8": "int8", "int8.gpu": "int8.gpu"}


@dataclass(frozen=True)
class ModelInfo:
    """A model that `Upscaler` opens by its name; of a shipped one, all files."""

    name: str
    """What `Upscaler` takes."""
    purpose: str
    """What it is for, in a few words."""
    scale: int | None
    """Output size over input size; None: nothing says."""
    channels: int | None
    """3: RGB; 1: luma, and color is enlarged by interpolation; None: nothing says."""
    precisions: tuple[str, ...]
    """Precisions that have a file: `fp32`, `fp16`, `int8` (CPUs) and `int8.gpu` (GPUs)."""
    size_bytes: int
    """Size of the float32 file, or of the only one."""
    psnr_y_db: Mapping[str, float]
    """PSNR on luma in dB, by test set."""
    license: str
    """License of the weights, as an SPDX identifier, with its conditions; empty: not stated."""
    training_data: str
    """What the weights were learned from, and on what terms; empty: not stated."""
    origin: str = "shipped"
    """`shipped`; `fetched`: by `srsdk fetch`; `package`: by an installed Python package."""
    source: str = ""
    """URL or file that it was fetched from, or the package with its version."""
    training_licenses: tuple[str, ...] = ()
    """SPDX identifiers of the licenses of its training data; empty: not stated."""

    @property
    def may_be_shipped(self) -> bool | None:
        """Whether its weights and all of its training data are under terms that permit shipping.

        The rule is that of `srsdk.models.terms`, which compares SPDX identifiers with a list; it is
        not legal advice. None: not stated.
        """
        return may_be_shipped(self.license, self.training_licenses)


def list_models() -> list[ModelInfo]:
    """Return all models: those that are shipped, fetched, and of installed packages, in this order.

    Packages that bring models are imported. One that is broken is left out, and so is a fetched
    model whose card is damaged; a warning in the log says which and why.

    Raises:
        ModelError: a model file of the installation is damaged.
    """
    files = shipped()
    found = [_info(name, files) for name in files if "." not in name]
    others = sorted(_others(), key=lambda info: (info.origin != "fetched", info.name))
    return [*found, *others]


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
        training_licenses=manifest.training_licenses,
    )


def _others() -> Iterator[ModelInfo]:
    """Yield the models that are not shipped."""
    for name in lookup.names():
        try:
            found = lookup.card(name)
            if name in shipped():
                source = found.source if found else "?"
                log.warning("%r of %s is not used: it is the name of a shipped model", name, source)
            elif found is not None:
                yield _carded(found)
        except ModelError as error:
            log.warning("%s", error)


def _carded(card: Card) -> ModelInfo:
    manifest = read_manifest(card.path) if card.path.suffix in SUFFIXES else None
    precision = manifest.precision if manifest else "unknown"
    return ModelInfo(
        card.name,
        card.description,
        manifest.scale if manifest else card.scale,
        manifest.channels if manifest else card.channels,
        () if precision == "unknown" else (precision,),
        card.size_bytes,
        MappingProxyType(_psnr(manifest) if manifest else {}),
        card.license or (manifest.licence if manifest else ""),
        manifest.training_data if manifest else "",
        card.origin,
        card.source,
        manifest.training_licenses if manifest else (),
    )


def _psnr(manifest: Manifest) -> dict[str, float]:
    return {
        name: score["psnr_y_db"] for name, score in manifest.scores.items() if "psnr_y_db" in score
    }
