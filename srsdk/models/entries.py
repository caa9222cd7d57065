"""Read entries of openmodeldb.info: the JSON files of its repository's `data/models` folder.

The form is that of src/lib/schema.ts of https://github.com/OpenModelDB/open-model-database.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from srsdk.errors import ModelError
from srsdk.formats.files import opened
from srsdk.models.cards import CHECKPOINTS

MAX_ENTRY_BYTES = 1 << 20
PAGES = (
    *("drive.google.com", "mega.nz", "mega.io", "mediafire.com", "1drv.ms", "onedrive.live.com"),
    *("icedrive.net", "dropbox.com", "pixeldrain.com", "upscale.wiki"),
)
"""Hosts whose links lead to a page with a button, not to a file."""
_SUFFIXES = {"onnx": ".onnx", "pth": ".pth", "safetensors": ".safetensors"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model of openmodeldb, and the file of it to fetch."""

    title: str
    """Its name there."""
    author: str
    """Authors, separated by commas."""
    license: str
    """SPDX expression; empty: none."""
    description: str
    """First line of its description."""
    architecture: str
    """Identifier of the architecture."""
    scale: int | None
    """Output size over input size."""
    channels: int | None
    """Channels of the input."""
    suffix: str
    """Of the file: `.onnx`, `.pth` or `.safetensors`."""
    sha256: str
    """SHA-256 of the file; empty: not stated."""
    size_bytes: int
    """Size of the file; 0: not stated."""
    urls: tuple[str, ...]
    """Links to the file itself, best first."""
    pages: tuple[str, ...]
    """Links to pages that offer the file."""


def is_entry(path: Path) -> bool:
    """Return whether a file is an entry by its name."""
    return path.suffix == ".json"


def read_entry(path: Path) -> Entry:
    """Read an entry; of several files an ONNX file is taken, because it needs no export.

    Raises:
        ModelError: not an entry of openmodeldb, or one without a file that can be used.
    """
    with opened(path, "an entry of openmodeldb") as (file, size):
        if size > MAX_ENTRY_BYTES:
            raise ModelError(f"{path} has {size:,} bytes, expected at most {MAX_ENTRY_BYTES:,}")
        content = file.read()
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    resources = values.get("resources") if isinstance(values, dict) else None
    if not isinstance(resources, list):
        raise ModelError(f"{path} is not an entry of openmodeldb: it has no list of resources")
    return _entry(values, _best(path, resources))


def _best(path: Path, resources: list[Any]) -> dict[str, Any]:
    usable = [
        each
        for each in resources
        if isinstance(each, dict) and str(each.get("type")) in _SUFFIXES and each.get("urls")
    ]
    if not usable:
        kinds = sorted({str(each.get("type")) for each in resources if isinstance(each, dict)})
        raise ModelError(
            f"{path} offers {', '.join(kinds) or 'no files'}, expected {', '.join(_SUFFIXES)}"
        )
    return min(usable, key=lambda each: _SUFFIXES[each["type"]] in CHECKPOINTS)


def _entry(values: dict[str, Any], resource: dict[str, Any]) -> Entry:
    author, digest = values.get("author"), str(resource.get("sha256") or "")
    links = [str(url) for url in resource["urls"]] if isinstance(resource["urls"], list) else []
    return Entry(
        title=_text(values.get("name")),
        author=", ".join(map(_text, author)) if isinstance(author, list) else _text(author),
        license=_text(values.get("license")),
        description=_text(values.get("description")).partition("\n")[0],
        architecture=_text(values.get("architecture")),
        scale=_whole(values.get("scale"), 16),
        channels=_whole(values.get("inputChannels"), 4),
        suffix=_SUFFIXES[resource["type"]],
        sha256=digest.lower() if re.fullmatch("[0-9a-fA-F]{64}", digest) else "",
        size_bytes=_whole(resource.get("size"), 1 << 40) or 0,
        urls=tuple(url for url in links if not _is_page(url)),
        pages=tuple(url for url in links if _is_page(url)),
    )


def _is_page(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return True
    return any(host == page or host.endswith(f".{page}") for page in PAGES)


def _text(value: object) -> str:
    return value.strip()[:2000] if isinstance(value, str) else ""


def _whole(value: object, most: int) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 1 <= value <= most else None  # type: ignore[operator,return-value]
