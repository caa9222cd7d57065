"""Models that installed Python packages bring: entry points of the group `srsdk.models`.

The name of an entry point is the name of a model. Its value is the path of a model file, a mapping
with `path` and more, or a function that returns one of these; it is imported only when the model is
asked for or all are listed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from srsdk.errors import ModelError, UsageError
from srsdk.formats.files import check_regular
from srsdk.models.cards import CHECKPOINTS, RUNNABLE, Card, check_name

GROUP = "srsdk.models"
KEYS = ("path", "sha256", "license", "author", "description")
"""What a mapping may say of a model; only `path` is required."""


def names() -> list[str]:
    """Return the names of all models that packages bring, sorted; nothing of them is imported."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def packages(name: str) -> list[str]:
    """Return the packages that bring a model of this name, with their versions."""
    return sorted(_package(point) for point in entry_points(group=GROUP, name=name))


def card(name: str) -> Card | None:
    """Import what describes a model and return its card; None: no package brings it.

    Raises:
        ModelError: two packages bring it, or the package is broken: names the packages.
    """
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        return None
    if len(found) > 1:
        raise ModelError(
            f"{name!r} is brought by {' and '.join(packages(name))}: uninstall one of "
            "them, or pass the path of a file"
        )
    try:
        check_name(name)
    except UsageError as error:
        raise _broken(found[0], str(error)) from error
    return _card(found[0], _said(found[0]))


def _said(point: EntryPoint) -> Mapping[str, Any]:
    """Return what the entry point says, as a mapping."""
    try:
        value = point.load()
        if callable(value):
            value = value()
    # a package may raise anything, and some leave the process when a library is missing
    except (Exception, SystemExit) as error:
        raise _broken(point, f"{type(error).__name__}: {error}") from error
    if isinstance(value, (str, os.PathLike)):
        value = {"path": value}
    if not isinstance(value, Mapping) or "path" not in value:
        raise _broken(point, f"{point.value} is {value!r}, expected a path or a mapping with path")
    unknown = sorted(str(key) for key in value if key not in KEYS)
    if unknown:
        raise _broken(point, f"it says {', '.join(unknown)}, expected {', '.join(KEYS)}")
    for key in KEYS[1:]:
        if not isinstance(value.get(key, ""), str):
            raise _broken(point, f"its {key} is {value[key]!r}, expected text")
    if not re.fullmatch("([0-9a-fA-F]{64})?", value.get("sha256", "")):
        raise _broken(point, f"its sha256 is {value['sha256']!r}, expected 64 hexadecimal digits")
    return value


def _card(point: EntryPoint, said: Mapping[str, Any]) -> Card:
    try:
        path = Path(said["path"])
    except TypeError as error:
        raise _broken(point, f"its path is {said['path']!r}, expected a path") from error
    # a relative path would name another file in each working directory
    if not path.is_absolute() or path.suffix not in (*RUNNABLE, *CHECKPOINTS):
        expected = f"an absolute one ending in {', '.join(RUNNABLE)}"
        raise _broken(point, f"its path is {str(path)!r}, expected {expected}")
    try:
        size = check_regular(path)
    except ModelError as error:
        raise _broken(point, str(error)) from error
    texts = {key: said.get(key, "") for key in ("license", "author", "description")}
    return Card(
        name=point.name,
        origin="package",
        path=path,
        source=_package(point),
        sha256=said.get("sha256", "").lower(),
        size_bytes=size,
        **texts,
    )


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _broken(point: EntryPoint, reason: str) -> ModelError:
    return ModelError(
        f"the package {_package(point)} brings the model {point.name!r}, but cannot be used: "
        f"{reason}"
    )
