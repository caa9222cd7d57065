"""Read a TensorRT plan's manifest and header without TensorRT and without a GPU.

A plan holds its network's name in clear text; srsdk stores the manifest there. The header of plans
of TensorRT for RTX is not documented by NVIDIA: it was decoded from plans of version 1.7 and is
used for diagnostics only.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from srsdk.errors import ManifestError, ModelError
from srsdk.formats.files import opened

PLAN_SUFFIX = ".engine"
MAX_TEXT_BYTES = 4096
"""Longest network name that TensorRT allows."""
MAX_SEARCH_BYTES = 64 << 20
"""The name precedes the weights; in plans seen so far, it is within the first kilobytes."""

_BLOCK_BYTES = 1 << 20
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
        ModelError: missing, not a regular file, empty, or not a plan.
        ManifestError: the manifest starts but does not end within 4,096 bytes.
    """
    with opened(path, "a TensorRT engine") as (file, _):
        first = file.read(len(_RTX_MAGIC))
        text = _found(file)
    if text is None:
        if not first.startswith(_MAGICS):
            raise ModelError(
                f"{path} is not a TensorRT engine: it begins with {first!r}, "
                f"expected one of {', '.join(map(repr, _MAGICS))}"
            )
        return None
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: the plan's manifest is damaged: {error}") from error
    return text[:end]


def _found(file: BinaryIO) -> str | None:
    """Return what follows the first start of a manifest, or None.

    Read in blocks, not mapped: a file that another program cuts would end this process.
    """
    start, before = 0, b""
    while start < MAX_SEARCH_BYTES:
        file.seek(start)
        block = file.read(_BLOCK_BYTES)
        at = (before + block).find(_START)
        if at >= 0:
            file.seek(start - len(before) + at)
            # every byte is a character in latin-1; the JSON itself is ASCII
            return file.read(MAX_TEXT_BYTES).decode("latin-1")
        if len(block) < _BLOCK_BYTES:
            return None
        start, before = start + len(block), block[1 - len(_START) :]
    return None


def read_plan_header(path: Path) -> PlanHeader | None:
    """Return the header of a TensorRT for RTX plan; None for other plans.

    Raises:
        ModelError: missing, not a regular file, or empty.
    """
    with opened(path, "a TensorRT engine") as (file, _):
        first = file.read(_HEADER.size)
    if not first.startswith(_RTX_MAGIC) or len(first) < _HEADER.size:
        return None
    _, size, *version, mask = _HEADER.unpack(first)
    sms = tuple(sm for bit, sm in enumerate(_SMS) if mask >> bit & 1)
    return PlanHeader(".".join(map(str, version)), sms, size)


def hash_file(path: Path) -> Path:
    """Return the path of an engine's SHA-256 file, in the format of `sha256sum`."""
    return path.with_name(f"{path.name}.sha256")
