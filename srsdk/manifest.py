"""The manifest: metadata stored inside a model file, and its validation."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from srsdk.errors import ManifestError
from srsdk.formats.manifest_fields import check, wrong
from srsdk.formats.onnx_metadata import read_onnx_metadata
from srsdk.formats.probe import Probe
from srsdk.formats.tensorrt_plan import PLAN_SUFFIX, read_plan_text

SCHEMA = 1
METADATA_KEY = "srsdk.manifest"

MAX_TEXT_CHARACTERS = 1 << 16
"""Longest manifest; those of the shipped files have about 2,000 characters."""
LATER_FIELDS = (
    "tiling",
    "tiling_db",
    "bytes_per_px",
    "inputs",
    "input_ranges",
    "io",
    "training_licenses",
)
"""Fields that version 0.1.0 does not know."""
MAX_PROBE_PX = 1 << 18
"""Pixels of a probe's picture, where the file accepts any size; exports write 32x32."""


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
    """3: RGB. 1: luma; color is then upscaled bicubically. 4: RGB and alpha together."""
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
    version_compatible: bool = False
    """True: an engine that later versions of TensorRT open too, and its lean runtime of the version
    that built it."""
    sms: tuple[int, ...] = ()
    """GPU generations that an engine was built for, such as 86, 89, 120; empty: ONNX, or the
    library's portable default."""
    radius_measured: bool = False
    """True: `radius_px` is where the measured influence ends, although the network sees further;
    tiled and untiled results then agree to about one level, not bit for bit."""
    tiling: str = "exact"
    """Whether tiles give what the whole picture gives. `exact`: they do, from `radius_px` of
    overlap on. `aligned`: they do if they start at multiples of `multiple_px` (window attention),
    and they do start there. `bounded`: the network sees the whole picture, so tiles cost what
    `tiling_db` says. `none`: the network computes whole pictures only."""
    tiling_db: MappingProxyType[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """For `bounded`: PSNR of the tiled against the whole result by overlap in px, measured on real
    pictures at export; empty: not measured."""
    bytes_per_px: int = 0
    """For `bounded` and `none`: memory that the activations of the network take for each pixel of
    its input, measured at export in ONNX Runtime; 0: not measured."""
    inputs: MappingProxyType[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Numbers that the network takes beside the picture, such as a noise level, with their
    defaults; a call gives others by keyword."""
    input_ranges: MappingProxyType[str, tuple[float, float]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Lowest and highest number that the network has learned, by name; a call with another is a
    `UsageError`. An input that is not named takes any number."""
    io: MappingProxyType[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Input and output of the network before srsdk wrote its own boundary around it: see
    `srsdk.IO`; empty: a file that `python -m export` made."""
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
    training_licenses: tuple[str, ...] = ()
    """SPDX identifiers of all licenses of the training data, that of the models which the weights
    began as or were taught by included; empty: not stated."""
    built_with: MappingProxyType[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Versions of the tools that built the file."""
    build_key: str = ""
    """Hash of the source and of every option; a file with the same key need not be rebuilt."""

    def to_json(self) -> str:
        """Return the JSON text stored in the file."""
        values = _plain(self)
        for name in LATER_FIELDS:
            if not values[name] or values[name] == "exact":
                # a file that does not need them stays readable for older versions of srsdk
                del values[name]
        return json.dumps({"schema": SCHEMA, **values}, separators=(",", ":"))

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
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ManifestError(
            f"{source}: the manifest has {len(text):,} characters, at most {MAX_TEXT_CHARACTERS:,}"
        )
    try:
        values = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        # invalid JSON, NaN, a number with thousands of digits, thousands of brackets
        raise ManifestError(f"{source}: the manifest is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ManifestError(
            f"{source}: the manifest is {type(values).__name__}, expected an object"
        )
    schema = values.pop("schema", None)
    if type(schema) is not int or schema != SCHEMA:
        raise wrong(source, "schema", schema, f"{SCHEMA} (another version of srsdk wrote it)")
    known = {f.name: f for f in dataclasses.fields(Manifest)}
    for name in values:
        if name not in known:
            raise wrong(source, name, values[name], f"one of the fields {sorted(known)}")
    required = (dataclasses.MISSING, dataclasses.MISSING)
    for name, spec in known.items():
        if name not in values and (spec.default, spec.default_factory) == required:
            raise ManifestError(f"{source}: manifest field {name} is missing")
    checked = {name: check(source, name, value) for name, value in values.items()}
    return _check_probe_size(source, Manifest(**checked))


def _check_probe_size(source: str, manifest: Manifest) -> Manifest:
    """Reject a probe whose size the file does not accept, or that takes too long to compute."""
    only, probe = manifest.size_px, manifest.probe
    if probe is None:
        return manifest
    if only not in (None, probe.size_px):
        raise wrong(source, "probe.size_px", probe.size_px, f"{only}, the file's only size")
    known = [only, *(size for _, *size in manifest.profiles)]
    free = list(probe.size_px) not in [list(size) for size in known if size is not None]
    if free and math.prod(probe.size_px) > MAX_PROBE_PX:
        allowed = f"at most {MAX_PROBE_PX:,} pixels, or a size that the file is limited to"
        raise wrong(source, "probe.size_px", probe.size_px, allowed)
    return manifest


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")


def _plain(manifest: Manifest) -> dict[str, Any]:
    values = {f.name: getattr(manifest, f.name) for f in dataclasses.fields(manifest)}
    values["scores"] = {name: dict(score) for name, score in manifest.scores.items()}
    for name in ("built_with", "tiling_db", "inputs", "io"):
        values[name] = dict(values[name])
    values["input_ranges"] = {name: list(pair) for name, pair in manifest.input_ranges.items()}
    values["probe"] = None if manifest.probe is None else manifest.probe.to_dict()
    return values
