"""Print a recipe as TOML, with every default and an explanation of every value."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
from typing import Any, cast

from training.recipe.schema import Recipe


def to_toml(recipe: Recipe) -> str:
    """Return all values as TOML, each below a comment that explains it."""
    return "\n".join(_toml_lines(recipe, "")) + "\n"


def _toml_lines(table: Any, prefix: str) -> list[str]:
    explained = _explanations(type(table))
    plain, tables = [], []
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        comment = [f"# {line.strip()}" for line in explained.get(field.name, "").splitlines()]
        if dataclasses.is_dataclass(value):
            name = f"{prefix}{field.name}"
            tables += ["", *comment, f"[{name}]", *_toml_lines(value, f"{name}.")]
        else:
            # JSON strings, numbers, booleans and arrays are valid TOML
            plain += [*comment, f"{field.name} = {json.dumps(value)}"]
    return plain + tables


def _explanations(kind: type[Any]) -> dict[str, str]:
    """Return the docstring below each field of a dataclass, inherited fields included."""
    found = {}
    for base in reversed(kind.__mro__[:-1]):
        body = cast(ast.ClassDef, ast.parse(inspect.getsource(base)).body[0]).body
        for field, text in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = str(text.value.value)
    return found
