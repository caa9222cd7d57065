"""The manifest: metadata stored inside a model file, and its validation."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from srsdk.errors import ManifestError
from srsdk.formats.onnx_metadata import read_onnx_metadata
from srsdk.formats.probe import Probe
from srsdk.formats.tensorrt_plan import PLAN_SUFFIX, read_plan_text

SCHEMA = 1
METADATA_KEY = "srsdk.manifest"

FAMILIES = ("gan", "ae", "vae", "foreign")
DTYPES = ("uint8", "float32")
LAYOUTS = ("NHWC", "NCHW")
PRECISIONS = ("fp32", "fp16", "int8", "unknown")
FLAVOURS = ("portable", "cpu", "gpu", "rtx", "tensorrt")
PARITY_OF = ("file", "graph")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Metadata of one model file, which has one precision and one scale."""

    name: str
    """Name of the model, such as `gan_x4`."""
    family: str = "foreign"
    """`gan`, `ae`, `vae`, or `foreign` for a network that was not exported by srsdk."""
    scale: int
    """Output size over input size: 1 to 16."""
    channels: int
    """3: RGB. 1: luma; color is then upscaled bicubically."""
    dtype: str = "uint8"
    """Type of input and output: `uint8` (0..255) or `float32` (0..1)."""
    layout: str = "NHWC"
    """Layout of input and output: `NHWC` or `NCHW`."""
    radius_px: int
    """Receptive-field radius in input pixels: an output pixel depends on no input further away."""
    multiple_px: int = 1
    """Input height and width must be multiples of this."""
    size_px: tuple[int, int] | None = None
    """The only input (height, width) that the file accepts; None: any."""
    precision: str = "unknown"
    """`fp32`, `fp16`, `int8`, or `unknown`."""
    flavour: str = "portable"
    """Target of the file: `portable` ONNX; `cpu` or `gpu`, the two forms of an INT8 graph; `rtx` or
    `tensorrt`, an engine of TensorRT for RTX or of TensorRT."""
    profiles: tuple[tuple[int, int, int], ...] = ()
    """The only input (batch, height, width) that an engine accepts; empty: any."""
    library_version: str = ""
    """Version of the library that built an engine; another may not open it; empty: ONNX."""
    sms: tuple[int, ...] = ()
    """GPU generations that an engine was built for, such as 86, 89, 120; empty: ONNX, or the
    library's portable default."""
    radius_measured: bool = False
    """True: `radius_px` is where the measured influence ends, although the network sees further;
    tiled and untiled results then agree to about one level, not bit for bit."""
    parity_db: float | None = None
    """PSNR against the float32 network, measured at export; None: not measured or equal."""
    parity_lsb: int | None = None
    """Largest difference from the float32 network, in levels of 255; None: not measured."""
    parity_of: str = "file"
    """What parity and scores were measured on: this `file`, or the `graph` that an engine was built
    from, which runs without a GPU."""
    scores: MappingProxyType[str, MappingProxyType[str, float]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """`psnr_y_db` and `ssim_y` of this file by test set, measured at export."""
    probe: Probe | None = None
    """The float32 network's output on a small picture, and how closely this file must match it;
    None: the file cannot be self-tested (`srsdk.inference.self_test`)."""
    weights_sha256: str = ""
    """SHA-256 of the exported weights; for a mix, of the adversarial weights."""
    texture: float | None = None
    """Share of the adversarial weights, 0 to 1; the parent has the rest. None: not mixed."""
    licence: str = ""
    """License of the weights."""
    training_data: str = ""
    """Data that the weights were trained on, and its license."""
    built_with: MappingProxyType[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Versions of the tools that built the file."""
    build_key: str = ""
    """Hash of the source and of every option; a file with the same key need not be rebuilt."""

    def to_json(self) -> str:
        """Return the JSON text stored in the file."""
        return json.dumps({"schema": SCHEMA, **_plain(self)}, separators=(",", ":"))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-serializable values."""
        return _plain(self)


def read_manifest(path: Path) -> Manifest | None:
    """Read the manifest of an ONNX or engine file, without loading its weights or using a GPU.

    Returns:
        The manifest, or None if the file is valid but has none.

    Raises:
        ModelError: the file is missing, empty, or of neither kind.
        ManifestError: the manifest is invalid.
    """
    if path.suffix == PLAN_SUFFIX:
        text = read_plan_text(path)
    else:
        text = read_onnx_metadata(path).get(METADATA_KEY)
    return None if text is None else parse_manifest(text, source=str(path))


def parse_manifest(text: str, *, source: str) -> Manifest:
    """Parse a manifest's JSON text and check it field by field.

    Raises:
        ManifestError: names `source`, the field, its value and the allowed values.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        # invalid JSON, a number with thousands of digits, thousands of brackets
        raise ManifestError(f"{source}: the manifest is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ManifestError(
            f"{source}: the manifest is {type(values).__name__}, expected an object"
        )
    schema = values.pop("schema", None)
    if schema != SCHEMA:
        raise _wrong(source, "schema", schema, f"{SCHEMA} (another version of srsdk wrote it)")
    known = {f.name: f for f in dataclasses.fields(Manifest)}
    for name in values:
        if name not in known:
            raise _wrong(source, name, values[name], f"one of the fields {sorted(known)}")
    required = (dataclasses.MISSING, dataclasses.MISSING)
    for name, spec in known.items():
        if name not in values and (spec.default, spec.default_factory) == required:
            raise ManifestError(f"{source}: manifest field {name} is missing")
    checked = {name: _check(source, name, value) for name, value in values.items()}
    return _check_probe_size(source, Manifest(**checked))


def _check_probe_size(source: str, manifest: Manifest) -> Manifest:
    """Reject a probe whose size the file does not accept."""
    only, probe = manifest.size_px, manifest.probe
    if probe is not None and only not in (None, probe.size_px):
        raise _wrong(source, "probe.size_px", probe.size_px, f"{only}, the file's only size")
    return manifest


def _plain(manifest: Manifest) -> dict[str, Any]:
    values = {f.name: getattr(manifest, f.name) for f in dataclasses.fields(manifest)}
    values["scores"] = {name: dict(score) for name, score in manifest.scores.items()}
    values["built_with"] = dict(manifest.built_with)
    values["probe"] = None if manifest.probe is None else manifest.probe.to_dict()
    return values


_CHOICES = {
    "family": FAMILIES,
    "dtype": DTYPES,
    "layout": LAYOUTS,
    "precision": PRECISIONS,
    "flavour": FLAVOURS,
    "parity_of": PARITY_OF,
}
_RANGES = {"scale": (1, 16), "radius_px": (0, 4096), "multiple_px": (1, 256)}


def _check(source: str, name: str, value: Any) -> Any:
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise _wrong(source, name, value, " or ".join(_CHOICES[name]))
        return value
    if name in _RANGES:
        low, high = _RANGES[name]
        if not _is_int(value) or not low <= value <= high:
            raise _wrong(source, name, value, f"a whole number from {low} to {high}")
        return value
    return _CHECKS[name](source, name, value)


def _check_channels(source: str, name: str, value: Any) -> int:
    if not _is_int(value) or value not in (1, 3):
        raise _wrong(source, name, value, "1 or 3")
    return int(value)


def _check_size(source: str, name: str, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    pair = isinstance(value, (list, tuple)) and len(value) == 2
    if not pair or not all(_is_int(side) and side > 0 for side in value):
        raise _wrong(source, name, value, "null or [height, width]")
    return (value[0], value[1])


def _check_number(source: str, name: str, value: Any) -> float | None:
    if value is not None and not _is_number(value):
        raise _wrong(source, name, value, "null or a number")
    return None if value is None else float(value)


def _check_share(source: str, name: str, value: Any) -> float | None:
    if value is not None and (not _is_number(value) or not 0 <= value <= 1):
        raise _wrong(source, name, value, "null or a number from 0 to 1")
    return None if value is None else float(value)


def _check_lsb(source: str, name: str, value: Any) -> int | None:
    if value is None:
        return None
    if not _is_int(value) or not 0 <= value <= 255:
        raise _wrong(source, name, value, "null or a whole number from 0 to 255")
    return int(value)


def _check_flag(source: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(source, name, value, "true or false")
    return value


def _check_profiles(source: str, name: str, value: Any) -> tuple[tuple[int, int, int], ...]:
    allowed = "a list of [batch, height, width]"
    if not isinstance(value, (list, tuple)):
        raise _wrong(source, name, value, allowed)
    for profile in value:
        triple = isinstance(profile, (list, tuple)) and len(profile) == 3
        if not triple or not all(_is_int(side) and side > 0 for side in profile):
            raise _wrong(source, name, value, allowed)
    return tuple((n, height, width) for n, height, width in value)


def _check_sms(source: str, name: str, value: Any) -> tuple[int, ...]:
    numbers = isinstance(value, (list, tuple)) and all(_is_int(sm) for sm in value)
    if not numbers or not all(50 <= sm <= 999 for sm in value):
        raise _wrong(source, name, value, "a list of numbers such as 86, 89, 120")
    return tuple(value)


def _check_text(source: str, name: str, value: Any) -> str:
    if not isinstance(value, str) or (name == "name" and not value):
        raise _wrong(source, name, value, "a string")
    return value


def _check_versions(source: str, name: str, value: Any) -> MappingProxyType[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise _wrong(source, name, value, "an object of strings")
    return MappingProxyType(dict(value))


def _check_probe(source: str, name: str, value: Any) -> Probe | None:
    if value is None:
        return None
    try:
        return Probe.parse(value)
    except (ValueError, TypeError, KeyError) as error:
        allowed = "null or size_px, samples (base64), min_psnr_db and max_lsb"
        raise _wrong(source, name, value, f"{allowed}: {error}") from error


def _check_scores(
    source: str, name: str, value: Any
) -> MappingProxyType[str, MappingProxyType[str, float]]:
    tables = isinstance(value, dict) and all(isinstance(v, dict) for v in value.values())
    if not tables or not all(_is_number(n) for v in value.values() for n in v.values()):
        raise _wrong(source, name, value, "an object of numbers for each test set")
    return MappingProxyType({k: MappingProxyType(dict(v)) for k, v in value.items()})


_CHECKS = {
    "name": _check_text,
    "channels": _check_channels,
    "size_px": _check_size,
    "profiles": _check_profiles,
    "library_version": _check_text,
    "sms": _check_sms,
    "radius_measured": _check_flag,
    "parity_db": _check_number,
    "parity_lsb": _check_lsb,
    "scores": _check_scores,
    "probe": _check_probe,
    "weights_sha256": _check_text,
    "texture": _check_share,
    "licence": _check_text,
    "training_data": _check_text,
    "built_with": _check_versions,
    "build_key": _check_text,
}


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    # an integer too large for a float could not be displayed
    return isinstance(value, float) or (_is_int(value) and abs(value) < 1 << 63)


def _wrong(source: str, name: str, value: Any, allowed: str) -> ManifestError:
    return ManifestError(f"{source}: manifest field {name} is {value!r}, allowed: {allowed}")
