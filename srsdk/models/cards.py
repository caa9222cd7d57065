"""`Card`: where a model comes from and on what terms; and which names a model may have."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from srsdk.errors import UsageError
from srsdk.system.paths import bad_name

PACKAGE_SUFFIX = ".dtmodel"
"""Of darktable's model packages."""
CHECKPOINTS = (".pth", ".pt", ".ckpt", ".safetensors")
"""Suffixes of weights that become a model by `python -m export`."""
RUNNABLE = (".onnx", ".engine", PACKAGE_SUFFIX)
"""Suffixes of what `Upscaler` opens."""
MAX_NAME_CHARACTERS = 100
NO_LICENSE = "no license stated: ask its author before you ship it"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_OR = re.compile(r"\s+OR\s+|/", re.IGNORECASE)
_NOT_COMMERCIAL = re.compile(r"\bBY-NC\b|non-?commercial|research[- ]only", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Card:
    """Where a model comes from, and on what terms it may be used."""

    name: str
    """What `Upscaler` takes."""
    origin: str
    """`fetched`, `package` or `file`."""
    path: Path
    """The file as it is stored; a darktable package is unpacked when it is opened."""
    source: str
    """URL or file that it was fetched from, or Python package with version that brings it."""
    sha256: str = ""
    """SHA-256 of the file, in lower case; empty: not known."""
    license: str = ""
    """License of the weights, as its source states it; empty: it states none."""
    author: str = ""
    """Who made it."""
    description: str = ""
    """What it is for."""
    architecture: str = ""
    """Name of the network's architecture."""
    scale: int | None = None
    """Output size over input size; None: not stated."""
    channels: int | None = None
    """Channels of the input; None: not stated."""
    size_bytes: int = 0
    """Size of the file."""
    fetched: str = ""
    """Date, as 2026-11-30."""
    member: str = ""
    """The model inside of a darktable package."""


def check_name(name: str, taken: Collection[str] = ()) -> str:
    """Check a name for a model and return it.

    Args:
        name: letters, digits and `.`, `_`, `+`, `-`, at most 100.
        taken: names that it may not have, in whatever case.

    Raises:
        UsageError: not such a name.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_CHARACTERS or name.endswith("."):
        raise UsageError(
            f"the name is {name!r}, expected at most {MAX_NAME_CHARACTERS} letters, digits and "
            "._+-, beginning with a letter or digit, such as 4x_foliage"
        )
    if Path(name).suffix.lower() in (*RUNNABLE, *CHECKPOINTS):
        raise UsageError(f"the name is {name!r}, expected one without suffix: {Path(name).stem}")
    if reason := bad_name(name):
        raise UsageError(f"the name is {name!r}, but {reason}")
    if name.casefold() in {each.casefold() for each in taken}:
        raise UsageError(f"{name!r} is the name of a shipped model: choose another, as my_{name}")
    return name


def license_note(license_text: str) -> str:
    """Return what to point out about a license in one sentence, or "".

    Of licenses joined by OR one may be chosen: only if each forbids commercial use, all do.
    """
    if not license_text.strip():
        return NO_LICENSE
    if all(_NOT_COMMERCIAL.search(each) for each in _OR.split(license_text)):
        return f"{license_text} forbids commercial use"
    return ""
