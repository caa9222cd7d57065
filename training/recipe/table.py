"""Fill dataclasses from tables of TOML, with an error for every key and value that does not fit."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

LARGEST = sys.float_info.max


class RecipeError(ValueError):
    """An invalid recipe; the message names the file, the key and the allowed values."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read one TOML file.

    Raises:
        RecipeError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder, expected a .toml file") from None
    except (ValueError, RecursionError) as error:
        # not TOML, not UTF-8, a number of thousands of digits, thousands of nested brackets
        raise RecipeError(f"{path}: not TOML: {error}") from error


def from_table(kind: type[T], table: dict[str, Any], source: str, prefix: str = "") -> T:
    """Fill a dataclass from a table; `source` begins every error message.

    Raises:
        RecipeError: an unknown or a missing key, a wrong type.
    """
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"; did you mean '{prefix}{near[0]}'?" if near else f"; known: {sorted(hints)}"
            raise RecipeError(f"{source}: unknown key '{prefix}{key}'{hint}")
        values[key] = _checked(hints[key], value, source, f"{prefix}{key}")
    try:
        return kind(**values)
    except TypeError as error:
        missing = str(error).rpartition(": ")[2]
        raise RecipeError(f"{source}: missing {missing}") from error


def _checked(kind: type[Any], value: Any, source: str, name: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise RecipeError(f"{source}: {name} = {value!r}, expected a table")
        return from_table(kind, value, source, f"{name}.")
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{source}: {name} = {value!r}, expected an array")
        kinds = get_args(kind)
        if kinds[-1] is not Ellipsis and len(kinds) != len(value):
            raise RecipeError(f"{source}: {name} = {value!r}, expected {len(kinds)} values")
        return tuple(_checked(kinds[0], each, source, name) for each in value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= LARGEST:
            raise RecipeError(f"{source}: {name} = {value!r}, expected a finite number")
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        got = f"{value!r} ({type(value).__name__})"
        raise RecipeError(f"{source}: {name} = {got}, expected {kind.__name__}")
    return value
