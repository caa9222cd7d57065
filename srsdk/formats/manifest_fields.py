"""Check the values of a manifest's fields, whose meaning `srsdk.manifest.Manifest` documents.

A manifest is part of a file from anywhere, so the length of each list and string has a limit, and
each number has a range.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from srsdk.errors import ManifestError
from srsdk.formats.probe import Probe

MAX_SIDE_PX, MAX_PIXELS, MAX_BATCH = 1 << 16, 1 << 26, 1024
"""Largest input size that a file may be limited to."""
MAX_PROFILES, MAX_SMS = 256, 64
MAX_CHARACTERS = 1 << 14
"""Of one string; a license text may be one."""
MAX_OVERLAPS, MAX_INPUTS = 64, 16
MAX_SETS, MAX_SCORES, MAX_VERSIONS = 256, 16, 64
MAX_LICENSES, MAX_SPDX_CHARACTERS = 64, 64
SHOWN_CHARACTERS = 200
"""Length to which a wrong value is shortened in the error message."""

_CHOICES = {
    "family": ("gan", "ae", "vae", "foreign"),
    "dtype": ("uint8", "float32"),
    "layout": ("NHWC", "NCHW"),
    "precision": ("fp32", "fp16", "int8", "unknown"),
    "flavour": ("portable", "cpu", "gpu", "rtx", "tensorrt"),
    "parity_of": ("file", "graph"),
    "tiling": ("exact", "aligned", "bounded", "none"),
}
_RANGES = {
    "scale": (1, 16),
    "radius_px": (0, 4096),
    "multiple_px": (1, 256),
    "bytes_per_px": (0, 1 << 32),
}

_SPDX = re.compile(r"(DocumentRef-[A-Za-z0-9.-]+:)?[A-Za-z0-9][A-Za-z0-9.-]*\+?")


def check(source: str, name: str, value: Any) -> Any:
    """Return the value of a field as `Manifest` holds it.

    Args:
        source: begins the error message.
        name: of the field.
        value: as parsed from JSON.

    Raises:
        ManifestError: names the field, its value and the allowed values.
    """
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise wrong(source, name, value, " or ".join(_CHOICES[name]))
        return value
    if name in _RANGES:
        low, high = _RANGES[name]
        if not _is_int(value, low, high):
            raise wrong(source, name, value, f"a whole number from {low} to {high}")
        return value
    return _CHECKS[name](source, name, value)


def wrong(source: str, name: str, value: Any, allowed: str) -> ManifestError:
    """Return the error for a field."""
    shown = name if name.replace(".", "").isidentifier() else repr(name)
    return ManifestError(
        f"{source}: manifest field {_short(shown)} is {_short(repr(value))}, allowed: {allowed}"
    )


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _check_channels(source: str, name: str, value: Any) -> int:
    if not _is_int(value, 1, 4) or value == 2:
        raise wrong(source, name, value, "1, 3 or 4")
    return int(value)


def _check_size(source: str, name: str, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    pair = isinstance(value, (list, tuple)) and len(value) == 2
    if not pair or not _is_size(value):
        raise wrong(source, name, value, f"null or [height, width] of at most {MAX_PIXELS:,} px")
    return (value[0], value[1])


def _check_number(source: str, name: str, value: Any) -> float | None:
    if value is not None and not _is_number(value):
        raise wrong(source, name, value, "null or a number")
    return None if value is None else float(value)


def _check_share(source: str, name: str, value: Any) -> float | None:
    if value is not None and (not _is_number(value) or not 0 <= value <= 1):
        raise wrong(source, name, value, "null or a number from 0 to 1")
    return None if value is None else float(value)


def _check_lsb(source: str, name: str, value: Any) -> int | None:
    if value is None:
        return None
    if not _is_int(value, 0, 255):
        raise wrong(source, name, value, "null or a whole number from 0 to 255")
    return int(value)


def _check_flag(source: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong(source, name, value, "true or false")
    return value


def _check_profiles(source: str, name: str, value: Any) -> tuple[tuple[int, int, int], ...]:
    allowed = f"a list of [batch, height, width], at most {MAX_PROFILES}"
    if not isinstance(value, (list, tuple)) or len(value) > MAX_PROFILES:
        raise wrong(source, name, value, allowed)
    for profile in value:
        triple = isinstance(profile, (list, tuple)) and len(profile) == 3
        if not triple or not _is_int(profile[0], 1, MAX_BATCH) or not _is_size(profile[1:]):
            raise wrong(source, name, value, allowed)
    return tuple((n, height, width) for n, height, width in value)


def _check_sms(source: str, name: str, value: Any) -> tuple[int, ...]:
    short = isinstance(value, (list, tuple)) and len(value) <= MAX_SMS
    if not short or not all(_is_int(sm, 50, 999) for sm in value):
        raise wrong(source, name, value, "a list of numbers such as 86, 89, 120")
    return tuple(value)


def _check_text(source: str, name: str, value: Any) -> str:
    if not _is_text(value) or (name == "name" and not value):
        raise wrong(source, name, value, f"a string of at most {MAX_CHARACTERS:,} characters")
    return str(value)


def is_spdx(value: Any) -> bool:
    """Return whether a value has the form of one SPDX identifier, such as `CC-BY-4.0`.

    The form is that of SPDX 2.3, Annex D; whether the identifier is listed is not checked.
    """
    is_short = isinstance(value, str) and len(value) <= MAX_SPDX_CHARACTERS
    return is_short and _SPDX.fullmatch(value) is not None


def _check_licenses(source: str, name: str, value: Any) -> tuple[str, ...]:
    short = isinstance(value, (list, tuple)) and len(value) <= MAX_LICENSES
    if not short or not all(map(is_spdx, value)):
        allowed = f"a list of SPDX identifiers such as CC0-1.0, at most {MAX_LICENSES}"
        raise wrong(source, name, value, allowed)
    return tuple(value)


def _check_versions(source: str, name: str, value: Any) -> MappingProxyType[str, str]:
    short = isinstance(value, dict) and len(value) <= MAX_VERSIONS
    if not short or not all(_is_text(text) for pair in value.items() for text in pair):
        raise wrong(source, name, value, f"an object of strings, at most {MAX_VERSIONS}")
    return MappingProxyType(dict(value))


def _check_overlaps(source: str, name: str, value: Any) -> MappingProxyType[str, float]:
    allowed = f"an object of dB by overlap in px, at most {MAX_OVERLAPS}"
    if not isinstance(value, dict) or len(value) > MAX_OVERLAPS:
        raise wrong(source, name, value, allowed)
    for overlap, psnr_db in value.items():
        is_px = _is_text(overlap) and overlap.isdecimal() and len(overlap) <= 4
        if not is_px or not _is_number(psnr_db):
            raise wrong(source, name, value, allowed)
    return MappingProxyType({overlap: float(psnr_db) for overlap, psnr_db in value.items()})


def _check_inputs(source: str, name: str, value: Any) -> MappingProxyType[str, float]:
    allowed = f"an object of numbers by name, at most {MAX_INPUTS}"
    if not isinstance(value, dict) or len(value) > MAX_INPUTS:
        raise wrong(source, name, value, allowed)
    for key, number in value.items():
        # a keyword of a call
        if not _is_text(key) or not key.isidentifier() or len(key) > 64 or not _is_number(number):
            raise wrong(source, name, value, allowed)
    return MappingProxyType({key: float(number) for key, number in value.items()})


def _check_ranges(source: str, name: str, value: Any) -> MappingProxyType[str, tuple[float, float]]:
    allowed = f"an object of [lowest, highest] by name, at most {MAX_INPUTS}"
    if not isinstance(value, dict) or len(value) > MAX_INPUTS:
        raise wrong(source, name, value, allowed)
    for key, pair in value.items():
        both = isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair))
        if not _is_text(key) or not both or not pair[0] <= pair[1]:
            raise wrong(source, name, value, allowed)
    return MappingProxyType({key: (float(low), float(high)) for key, (low, high) in value.items()})


def _check_probe(source: str, name: str, value: Any) -> Probe | None:
    if value is None:
        return None
    try:
        return Probe.parse(value)
    except (ValueError, TypeError, KeyError) as error:
        allowed = "null or size_px, samples (base64), min_psnr_db and max_lsb"
        raise wrong(source, name, value, f"{allowed}: {_short(str(error))}") from error


def _check_scores(
    source: str, name: str, value: Any
) -> MappingProxyType[str, MappingProxyType[str, float]]:
    tables = isinstance(value, dict) and len(value) <= MAX_SETS
    if not tables or not all(_is_text(k) and _is_scores(v) for k, v in value.items()):
        raise wrong(source, name, value, "an object of numbers for each test set")
    return MappingProxyType({k: MappingProxyType(dict(v)) for k, v in value.items()})


_CHECKS: dict[str, Callable[[str, str, Any], Any]] = {
    "name": _check_text,
    "channels": _check_channels,
    "size_px": _check_size,
    "profiles": _check_profiles,
    "library_version": _check_text,
    "version_compatible": _check_flag,
    "sms": _check_sms,
    "radius_measured": _check_flag,
    "tiling_db": _check_overlaps,
    "inputs": _check_inputs,
    "input_ranges": _check_ranges,
    "io": _check_versions,
    "parity_db": _check_number,
    "parity_lsb": _check_lsb,
    "scores": _check_scores,
    "probe": _check_probe,
    "weights_sha256": _check_text,
    "texture": _check_share,
    "licence": _check_text,
    "training_data": _check_text,
    "training_licenses": _check_licenses,
    "built_with": _check_versions,
    "build_key": _check_text,
}


def _is_int(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_size(sides: Any) -> bool:
    """Return whether (height, width) is a size that some machine can compute."""
    return all(_is_int(side, 1, MAX_SIDE_PX) for side in sides) and math.prod(sides) <= MAX_PIXELS


def _is_number(value: Any) -> bool:
    # 1e999 is infinite, and an integer too large for a float could not be displayed
    return (type(value) is float and math.isfinite(value)) or _is_int(value, -(1 << 53), 1 << 53)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_CHARACTERS


def _is_scores(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) > MAX_SCORES:
        return False
    return all(_is_text(name) and _is_number(number) for name, number in value.items())
