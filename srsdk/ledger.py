"""What a run has finished, kept beside its output, so that the next one goes on where it was.

In the folder `.srsdk` of the output: `finished.jsonl`, one line for each finished picture, and
while a run goes on `batches/KEY.jsonl` for each finished batch and `batches/KEY.begun` for each one
that was begun. Many workers write, each its own files; only the driver joins them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from srsdk import storage
from srsdk.errors import OutputError

FOLDER = ".srsdk"
READERS = 32
"""Small files read at a time: from an object store each costs a round trip."""


@dataclass(frozen=True)
class Entry:
    """One finished picture."""

    source: str
    """Its address, without secrets."""
    source_bytes: int
    source_mtime_ns: int
    """0 where the store does not say."""
    target: str
    """Below the output folder."""
    target_bytes: int
    target_sha256: str
    model: str
    model_sha256: str
    """Of the model file."""


class Ledger:
    """The finished pictures of one output folder. One run at a time may write to it."""

    def __init__(self, output: str) -> None:
        self._folder = storage.join(output, FOLDER)

    def collect(self) -> tuple[dict[str, Entry], set[str]]:
        """Join what all batches have left into one file; for the driver, before any work.

        Returns:
            The finished pictures by target, and all targets that a batch ever began.

        Raises:
            OutputError: the folder cannot be read or written.
        """
        finished: dict[str, Entry] = {}
        begun: set[str] = set()
        _take(self._rows(self._file("finished.jsonl")), finished, begun)
        found = storage.list_files(storage.join(self._folder, "batches"), recursive=False) or []
        with ThreadPoolExecutor(READERS, thread_name_prefix="srsdk-ledger") as pool:
            for rows in pool.map(self._rows, [file.address for file in found]):
                _take(rows, finished, begun)
            if found:
                lines = [{"entry": asdict(finished[target])} for target in sorted(finished)]
                # what was begun and not finished is known to be ours until it is finished
                opened = {"targets": sorted(begun - set(finished))}
                self._write("finished.jsonl", [*lines, opened])
                list(pool.map(storage.delete, [file.address for file in found]))
        return finished, begun | set(finished)

    def attempts(self, key: str) -> dict[str, int] | None:
        """Return how often each picture of a batch was begun alone; None: the batch is new."""
        rows = self._rows(self._file("batches", f"{key}.begun"))
        return rows[0]["alone"] if rows else None

    def begin(self, key: str, targets: Sequence[str], alone: dict[str, int] | None = None) -> None:
        """Say which targets a batch is about to write.

        Raises:
            OutputError: it cannot be written.
        """
        self._write(f"batches/{key}.begun", [{"targets": list(targets), "alone": alone or {}}])

    def finish(self, key: str, rows: Iterable[dict[str, Any]]) -> None:
        """Keep the rows of a finished batch; those with an `entry` are finished pictures.

        Raises:
            OutputError: it cannot be written.
        """
        self._write(f"batches/{key}.jsonl", rows)

    def rows_of(self, key: str) -> list[dict[str, Any]]:
        """Return the rows of a finished batch; empty: it is not finished."""
        return self._rows(self._file("batches", f"{key}.jsonl"))

    def _rows(self, address: str) -> list[dict[str, Any]]:
        try:
            text = storage.get(address).decode("utf-8")
            return [json.loads(line) for line in text.splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise OutputError(f"{storage.public(address)} cannot be read: {error}") from error

    def _write(self, relative: str, rows: Iterable[dict[str, Any]]) -> None:
        address = self._file(*relative.split("/"))
        text = "".join(json.dumps(row) + "\n" for row in rows)
        try:
            storage.put(address, text.encode("utf-8"))
        except OSError as error:
            raise OutputError(f"{storage.public(address)} cannot be written: {error}") from error

    def _file(self, *relative: str) -> str:
        return storage.join(self._folder, *relative)


def _take(rows: list[dict[str, Any]], finished: dict[str, Entry], begun: set[str]) -> None:
    for row in rows:
        begun.update(row.get("targets", ()))
        if row.get("entry"):
            finished[row["entry"]["target"]] = Entry(**row["entry"])


def batch_key(values: Sequence[Any]) -> str:
    """Return a name for a batch that the same batch gets again, wherever it runs."""
    return hashlib.sha256(json.dumps(list(values)).encode("utf-8")).hexdigest()[:32]
