"""Results as JSON lines: one measurement a line, with all that is needed to repeat it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from srsdk.processor import KINDS as PROCESSOR_KINDS
from srsdk.processor import UNKNOWN

SCHEMA = 1
KINDS = (
    *("scenario", "stages", "startup", "ceilings", "video", "peer", "quality", "compare"),
    "restoration",
)
RESULTS = Path(__file__).parent / "results"

Record = dict[str, Any]


class RecordError(Exception):
    """A line that is no result."""


def make(
    kind: str,
    config: dict[str, Any],
    result: dict[str, Any],
    machine: dict[str, Any],
    before: dict[str, Any],
    after: dict[str, Any],
    command: str,
) -> Record:
    """Put a record together; `.meta` holds what is needed to repeat it."""
    meta = {"command": command, "machine": machine, "before": before, "after": after}
    return {"schema": SCHEMA, "kind": kind, "config": config, "result": result, "meta": meta}


def append(path: Path, record: Record) -> None:
    """Add one line to a file, made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(rounded(record), separators=(",", ":")) + "\n")


def read(path: Path) -> Iterator[Record]:
    """Yield the records of a file.

    Raises:
        RecordError: names file and line.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RecordError(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise RecordError(f"{path}, line {number}: no result of schema {SCHEMA}")
        if record.get("kind") not in KINDS:
            kind = record.get("kind")
            raise RecordError(
                f"{path}, line {number}: kind {kind!r} is not one of {', '.join(KINDS)}"
            )
        yield record


def read_all(paths: Iterable[Path]) -> list[Record]:
    """Read files and folders of `.jsonl` files, oldest measurement first.

    Raises:
        RecordError: a line that is no result.
    """
    files = [f for p in paths for f in (sorted(p.glob("*.jsonl")) if p.is_dir() else [p])]
    records = [record for file in files for record in read(file)]
    return sorted(records, key=lambda record: str(record["meta"]["before"]["time"]))


def missing(record: Record) -> str | None:
    """Return why something could not be measured on its machine; None where it was measured."""
    reason: str | None = record["result"].get("missing")
    return reason


def measured(found: Iterable[Record]) -> list[Record]:
    """Return the records that hold figures."""
    return [record for record in found if missing(record) is None]


def not_here(reason: str) -> str:
    """Say in a table or on the terminal that there is no figure, and why."""
    return f"not on this machine: {reason}"


def processor_of(record: Record) -> str:
    """Return the name of the processor that a record was made on."""
    return str(record["meta"]["machine"]["processor"])


def kind_of(record: Record) -> str:
    """Return the kind of that processor; records that others made before it was noted lack it."""
    return str(record["meta"]["machine"].get("processor_kind", UNKNOWN))


def machine_of(record: Record) -> str:
    """Return kind and name of that processor."""
    return f"{kind_of(record)} ({processor_of(record)})"


def kinds(found: Iterable[Record]) -> list[str]:
    """Return the kinds of processor that records were made on, in the order of tables."""
    there = {kind_of(record) for record in found}
    known = [kind for kind in PROCESSOR_KINDS if kind in there]
    return known + sorted(there.difference(known))


def rounded(value: Any) -> Any:
    """Shorten floats to 6 digits: a clock does not tell more."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
