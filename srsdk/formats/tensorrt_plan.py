"""Read a TensorRT plan's manifest and header without TensorRT and without a GPU.

A plan holds its network's name in clear text; srsdk stores the manifest there. The header of plans
of TensorRT for RTX is not documented by NVIDIA: it was decoded from plans of version 1.7 and is
used for diagnostics only.
"""

from __future__ import annotations

import json
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from srsdk.errors import ManifestError, ModelError

PLAN_SUFFIX = ".engine"
MAX_TEXT_BYTES = 4096
"""Longest network name that TensorRT allows."""
MAX_SEARCH_BYTES = 64 << 20
"""The name precedes the weights; in plans seen so far, it is within the first kilobytes."""

_START = b'{"schema":'
_RTX_MAGIC = b"vtrt"
_MAGICS = (_RTX_MAGIC, b"ptrt", b"ftrt")
_HEADER = struct.Struct("<4s12xQ4B4xI28x")
_SMS = (75, 80, 86, 89, 120, 121)
"""GPU generation of each bit of the header's mask, lowest bit first."""


@dataclass(frozen=True)
class PlanHeader:
    """Header (first 64 bytes) of a plan of TensorRT for RTX."""

    library_version: str
    """Version of the library that built it, such as `1.7.1.116`."""
    sms: tuple[int, ...]
    """GPU generations that it was built for."""
    size_bytes: int
    """Expected size of the plan file."""


def read_plan_text(path: Path) -> str | None:
    """Return the manifest's text in a plan, or None if it has no manifest.

    Raises:
        ModelError: missing, a folder, empty, or not a plan.
        ManifestError: the manifest starts but does not end within 4,096 bytes.
    """
    first = _first_bytes(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan:
        at = plan.find(_START, 0, MAX_SEARCH_BYTES)
        if at < 0 and not first.startswith(_MAGICS):
            raise ModelError(
                f"{path} is not a TensorRT engine: it begins with {first[:4]!r}, "
                f"expected one of {', '.join(map(repr, _MAGICS))}"
            )
        if at < 0:
            return None
        # every byte is a character in latin-1; the JSON itself is ASCII
        text = plan[at : at + MAX_TEXT_BYTES].decode("latin-1")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: the plan's manifest is damaged: {error}") from error
    return text[:end]


def read_plan_header(path: Path) -> PlanHeader | None:
    """Return the header of a TensorRT for RTX plan; None for other plans.

    Raises:
        ModelError: missing, a folder, or empty.
    """
    first = _first_bytes(path)
    if not first.startswith(_RTX_MAGIC) or len(first) < _HEADER.size:
        return None
    _, size, *version, mask = _HEADER.unpack(first)
    sms = tuple(sm for bit, sm in enumerate(_SMS) if mask >> bit & 1)
    return PlanHeader(".".join(map(str, version)), sms, size)


def hash_file(path: Path) -> Path:
    """Return the path of an engine's SHA-256 file, in the format of `sha256sum`."""
    return path.with_name(f"{path.name}.sha256")


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"{path} is a folder, expected an engine file")
    try:
        with path.open("rb") as file:
            first = file.read(_HEADER.size)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if not first:
        raise ModelError(f"{path} is empty (0 bytes), expected a TensorRT engine")
    return first
