"""SECURITY.md names the tests that hold its promises."""

from __future__ import annotations

import ast
import re
from pathlib import Path

NAME = re.compile(r"`((?:\w+/)*test_\w+\.py)(?:::(test_\w+))?`")


def test_every_test_that_is_named_exists(repository: Path) -> None:
    """Each promise in a table has at least one test, and each named test is there."""
    text = (repository / "SECURITY.md").read_text(encoding="utf-8")
    missing = []
    for file, name in NAME.findall(text):
        path = repository / "tests" / file
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.parse("")
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        if not path.is_file() or (name and name not in names):
            missing.append(f"{file}::{name}")
    assert not missing
    promises = [line for line in text.splitlines() if line.startswith("| ") and line.endswith(" |")]
    held = [line for line in promises if NAME.search(line)]
    assert len(held) >= 30
    for table in re.findall(r"\| promise \| tests \|\n\|---\|---\|\n((?:\|.*\n)+)", text):
        for line in table.splitlines():
            assert NAME.search(line), line
