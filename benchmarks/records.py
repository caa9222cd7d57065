"""Read and write benchmark results as JSON lines, each with what is needed to repeat it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from srsdk.system.durable import make_folder, sync, sync_folder
from srsdk.system.processor import KINDS as PROCESSOR_KINDS
from srsdk.system.processor import UNKNOWN

SCHEMA = 1
KINDS = (
    *("scenario", "stages", "startup", "ceilings", "video", "peer", "quality", "compare"),
    *("restoration", "mixed", "flicker", "video-peers"),
    *("layers", "inflight"),
)
RESULTS = Path(__file__).parent / "results"

Record = dict[str, Any]


class RecordError(Exception):
    """An invalid results file, or a document without the expected markers."""


def make(
    kind: str,
    config: dict[str, Any],
    result: dict[str, Any],
    machine: dict[str, Any],
    before: dict[str, Any],
    after: dict[str, Any],
    command: str,
) -> Record:
    """Create a record; its `meta` holds what is needed to repeat the measurement."""
    meta = {"command": command, "machine": machine, "before": before, "after": after}
    return {"schema": SCHEMA, "kind": kind, "config": config, "result": result, "meta": meta}


def append(path: Path, record: Record) -> None:
    """Append a record to a file, creating the file if missing; it survives a power cut."""
    make_folder(path.parent)
    line = json.dumps(rounded(record), separators=(",", ":")) + "\n"
    with path.open("a+b") as file:
        # a line that a power cut tore must not take this one with it
        if file.tell() and _last_byte(file) != b"\n":
            file.write(b"\n")
        file.write(line.encode())
    sync(path)
    sync_folder(path.parent)


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def read(path: Path) -> Iterator[Record]:
    """Yield the records of a file.

    Raises:
        RecordError: a line is not a valid record; the message names file and line.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RecordError(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise RecordError(f"{path}, line {number}: not a record of schema {SCHEMA}")
        if record.get("kind") not in KINDS:
            kind = record.get("kind")
            raise RecordError(
                f"{path}, line {number}: kind {kind!r} is not one of {', '.join(KINDS)}"
            )
        yield record


def read_all(paths: Iterable[Path]) -> list[Record]:
    """Read files and folders of `.jsonl` files, oldest measurement first.

    Raises:
        RecordError: a line is not a valid record.
    """
    files = [f for p in paths for f in (sorted(p.glob("*.jsonl")) if p.is_dir() else [p])]
    records = [record for file in files for record in read(file)]
    return sorted(records, key=lambda record: str(record["meta"]["before"]["time"]))


def missing(record: Record) -> str | None:
    """Return why a measurement could not run on its machine; None if it ran."""
    reason: str | None = record["result"].get("missing")
    return reason


def measured(found: Iterable[Record]) -> list[Record]:
    """Return the records that contain measurements."""
    return [record for record in found if missing(record) is None]


def not_here(reason: str) -> str:
    """Format the reason for a missing measurement, for tables and the terminal."""
    return f"not on this machine: {reason}"


def processor_of(record: Record) -> str:
    """Return the name of the processor that a record was measured on."""
    return str(record["meta"]["machine"]["processor"])


def kind_of(record: Record) -> str:
    """Return the kind of that processor; `unknown` in older records, which lack the field."""
    return str(record["meta"]["machine"].get("processor_kind", UNKNOWN))


def machine_of(record: Record) -> str:
    """Return the kind and name of that processor."""
    return f"{kind_of(record)} ({processor_of(record)})"


def kinds(found: Iterable[Record]) -> list[str]:
    """Return the kinds of processor in the records, in table order."""
    present = {kind_of(record) for record in found}
    known = [kind for kind in PROCESSOR_KINDS if kind in present]
    return known + sorted(present.difference(known))


def rounded(value: Any) -> Any:
    """Round floats to 6 significant digits; timers are no more precise."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
