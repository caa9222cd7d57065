"""What can be read of a TensorRT plan without TensorRT and without a GPU.

A plan holds its network's name in clear text, and the name of ours is the manifest. The rest comes
from the header of TensorRT for RTX plans, which NVIDIA does not document: it was decoded from plans
of version 1.7 and serves diagnostics only.
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
"""The longest name that TensorRT lets a network have."""
MAX_SEARCH_BYTES = 64 << 20
"""The name stands before the weights, in plans seen so far within the first kilobytes."""

_START = b'{"schema":'
_RTX_MAGIC = b"vtrt"
_MAGICS = (_RTX_MAGIC, b"ptrt", b"ftrt")
_HEADER = struct.Struct("<4s12xQ4B4xI28x")
_SMS = (75, 80, 86, 89, 120, 121)
"""Of the bits of the header's mask, from the lowest."""


@dataclass(frozen=True)
class PlanHeader:
    """The first 64 bytes of a plan of TensorRT for RTX."""

    library_version: str
    """Of the library that built it, such as `1.7.1.116`."""
    sms: tuple[int, ...]
    """GPU generations that it was built for."""
    size_bytes: int
    """Size that the plan should have."""


def read_plan_text(path: Path) -> str | None:
    """Return the manifest's text in a plan, or None where there is none.

    Raises:
        ModelError: missing, a folder, empty, or no plan.
        ManifestError: it begins but does not end within 4,096 bytes.
    """
    first = _first_bytes(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan:
        at = plan.find(_START, 0, MAX_SEARCH_BYTES)
        if at < 0 and not first.startswith(_MAGICS):
            raise ModelError(
                f"{path} is no TensorRT engine: it begins with {first[:4]!r}, "
                f"expected one of {', '.join(map(repr, _MAGICS))}"
            )
        if at < 0:
            return None
        # every byte is a character in latin-1; JSON's own part is ASCII
        text = plan[at : at + MAX_TEXT_BYTES].decode("latin-1")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: the plan's manifest is damaged: {error}") from error
    return text[:end]


def read_plan_header(path: Path) -> PlanHeader | None:
    """Return what the header of a TensorRT for RTX plan says; None for other plans.

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
    """Return where the SHA-256 of an engine stands, in the form of `sha256sum`."""
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
