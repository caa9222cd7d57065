"""The cases of the gallery, read from `gallery.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.records import RecordError

CASES = Path(__file__).with_name("gallery.toml")
LICENSES = {
    "CC0-1.0": "CC0 1.0",
    "CC-BY-4.0": "CC BY 4.0",
    "LicenseRef-Unsplash": "Unsplash License",
    "public domain": "public domain",
    "Apache-2.0": "drawn by this project",
}
"""Terms that allow redistribution, by SPDX name: no picture under other terms is published."""
METHODS = ("bicubic", "truth")
"""Panels that need no model. Every other method is the name of a model, or models joined by `+`."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One region of one picture, and how it is enlarged."""

    name: str
    """Begins the names of the files."""
    title: str
    remark: str
    """What to look at, in one or two sentences."""
    file: str
    """Path below the data folder or, if it begins with `samples/`, below the checkout; the name of
    a function of `drawings` where `license` is Apache-2.0."""
    source: str
    """Who published the picture."""
    license: str
    """One of `LICENSES`."""
    methods: tuple[str, ...]
    """Panels from left to right."""
    author: str = ""
    x: int = 0
    """Left edge of the region in the ground truth, px."""
    y: int = 0
    """Top edge, px."""
    side: int = 256
    """Width and height of the region, px; a multiple of 4."""
    shrink: int = 1
    """How many times smaller the ground truth is than the file."""
    jpeg: int = 0
    """JPEG quality of the input; 0: not compressed."""
    fails: bool = False
    """Whether it shows a limit instead of a success."""
    sheet: bool = False
    """Whether it is a row of the sheets that show all models."""


def read(path: Path = CASES) -> tuple[Case, ...]:
    """Read all cases.

    Raises:
        RecordError: an unknown or missing key, terms that do not allow redistribution, or a region
            whose side is no multiple of 4.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return tuple(_case(entry, path) for entry in table["case"])


def _case(entry: Mapping[str, Any], path: Path) -> Case:
    where = f"{path.name}: case {entry.get('name')!r}"
    known = {field.name for field in fields(Case)}
    if not set(entry) <= known:
        raise RecordError(f"{where}: unknown {', '.join(sorted(set(entry) - known))}")
    try:
        case = Case(**{**entry, "methods": tuple(entry["methods"])})
    except (KeyError, TypeError) as error:
        raise RecordError(f"{where}: {error}") from error
    if case.license not in LICENSES:
        allowed = ", ".join(LICENSES)
        raise RecordError(f"{where}: license {case.license!r}, expected one of {allowed}")
    if case.x % 4 or case.y % 4 or case.side % 4:
        raise RecordError(f"{where}: x, y and side must be multiples of 4")
    return case
