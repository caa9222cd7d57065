"""Find the file of the same weights in another precision, beside a model file."""

from __future__ import annotations

from pathlib import Path

from srsdk.formats.tensorrt_plan import PLAN_SUFFIX
from srsdk.manifest import Manifest, read_manifest


def int8_file(path: Path) -> Path | None:
    """Return the INT8 file for CPUs next to a float32 file; None: there is none of its weights.

    Raises:
        ModelError: one of the two files is damaged.
    """
    if path.suffix == PLAN_SUFFIX:
        return None
    return sibling(path, "int8", on_gpu=False)


def sibling(path: Path, precision: str, *, on_gpu: bool) -> Path | None:
    """Return the file of the same weights in `fp16` or `int8`; None: there is none beside it.

    Raises:
        ModelError: one of the two files is damaged.
    """
    beside = path.with_name(sibling_name(path, precision, on_gpu=on_gpu))
    if not beside.is_file():
        return None
    own, other = read_manifest(path), read_manifest(beside)
    # the weights must match: another model could have this name by chance
    matches = own is not None and other is not None and _is_form_of(other, own)
    return beside if matches and _fits(other, precision, on_gpu) else None


def sibling_name(path: Path, precision: str, *, on_gpu: bool) -> str:
    """Return the name of the file of the same weights in `fp16` or `int8`."""
    if path.suffix == PLAN_SUFFIX:
        return f"{path.stem.removesuffix('.fp32')}.{precision}{PLAN_SUFFIX}"
    gpu = ".gpu" if on_gpu and precision == "int8" else ""
    return f"{path.stem}.{precision}{gpu}.onnx"


def _is_form_of(other: Manifest, own: Manifest) -> bool:
    same = other.weights_sha256 == own.weights_sha256 and other.scale == own.scale
    return own.precision == "fp32" and same and bool(own.weights_sha256)


def _fits(other: Manifest | None, precision: str, on_gpu: bool) -> bool:
    if other is None or other.precision != precision:
        return False
    return on_gpu or other.flavour != "gpu"
