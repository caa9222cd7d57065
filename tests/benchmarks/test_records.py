"""Files of benchmark records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import records


def one(name: str) -> dict[str, Any]:
    """Return a record."""
    return records.make("scenario", {"name": name}, {}, {}, {}, {}, "command")


def test_a_torn_line_costs_no_other(tmp_path: Path) -> None:
    """What a power cut left of a line is an error with its number; the next record is whole."""
    path = tmp_path / "new" / "results.jsonl"
    records.append(path, one("a"))
    with path.open("ab") as file:
        file.write(b'{"schema": 1, "ki')
    records.append(path, one("b"))
    with pytest.raises(records.RecordError, match="line 2: not JSON"):
        list(records.read(path))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[2])
    assert list(records.read(path)) == [one("a"), one("b")]
