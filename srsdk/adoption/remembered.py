"""Remember how a file was adopted, so that the next process opens it without trial runs."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from srsdk.adoption.form import Form, Number
from srsdk.adoption.io import IO
from srsdk.engines.backends import library_version
from srsdk.system import user_cache

SCHEMA = 1
"""Of the remembered values; another one is found out again."""

Facts = tuple[Form, int, int, tuple[str, ...], tuple[str, ...]]
"""Form, scale, multiple, what was shown and what was assumed."""


def key(content: bytes, io: IO, backend: str) -> str:
    """Return what a file, `io` and the library that ran it are remembered under."""
    said = {name: repr(getattr(io, name)) for name in io.__dataclass_fields__}
    asked = [SCHEMA, hashlib.sha256(content).hexdigest(), said, library_version(backend)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def load(name: str) -> Facts | None:
    """Return what was found about a file before, or None."""
    file = _file(name)
    content = None if file is None else user_cache.load(file)
    if content is None:
        return None
    try:
        values = json.loads(content)
        if values["key"] != name:
            return None
        told, assumed = (tuple(map(str, values[each])) for each in ("told", "assumed"))
        return _form(values["form"]), int(values["scale"]), int(values["multiple"]), told, assumed
    except (ValueError, TypeError, KeyError, RecursionError):
        return None  # of another version, or damaged: found out again


def store(name: str, facts: Facts) -> None:
    """Remember what was found; a failure is logged."""
    file = _file(name)
    if file is None:
        return
    form, scale, multiple, told, assumed = facts
    values = {"key": name, "form": asdict(form), "scale": scale, "multiple": multiple,
              "told": told, "assumed": assumed}  # fmt: skip
    user_cache.store(file, json.dumps(values).encode(), level=logging.INFO)


def _file(name: str) -> Path | None:
    folder = user_cache.folder()
    return None if folder is None else folder / f"adopted-{name}.json"


def _form(values: dict[str, Any]) -> Form:
    known = {name: _tupled(value) for name, value in values.items() if name != "numbers"}
    numbers = tuple(
        Number(**{name: _tupled(value) for name, value in each.items()})
        for each in values["numbers"]
    )
    return Form(numbers=numbers, **known)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
