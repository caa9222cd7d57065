"""Find the INT8 form of a float32 file."""

from __future__ import annotations

from pathlib import Path

from srsdk.formats.tensorrt_plan import PLAN_SUFFIX
from srsdk.manifest import Manifest, read_manifest


def int8_file(path: Path) -> Path | None:
    """Return the INT8 file for CPUs next to a float32 file; None: there is none of its weights.

    Raises:
        ModelError: one of the two files is damaged.
    """
    beside = path.with_name(f"{path.stem}.int8.onnx")
    if path.suffix == PLAN_SUFFIX or not beside.is_file():
        return None
    own, other = read_manifest(path), read_manifest(beside)
    # the weights must match: another model could have this name by chance
    return beside if own is not None and other is not None and _is_int8_of(other, own) else None


def _is_int8_of(other: Manifest, own: Manifest) -> bool:
    forms = own.precision == "fp32" and other.precision == "int8" and other.flavour != "gpu"
    same = other.weights_sha256 == own.weights_sha256 and other.scale == own.scale
    return forms and same and bool(own.weights_sha256)
