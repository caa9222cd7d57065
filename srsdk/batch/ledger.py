"""Record of finished pictures next to the output, so that the next run can resume.

In the folder `.srsdk` of the output: `finished.jsonl` has one line for each finished picture.
During a run, `batches/KEY.begun` exists for each batch that was started and `batches/KEY.jsonl` for
each finished one. Many workers write, each its own files; only the driver merges them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from srsdk.batch import storage
from srsdk.errors import OutputError

FOLDER = ".srsdk"
READERS = 32
"""Small files to read at the same time: in an object store each costs a round trip."""


@dataclass(frozen=True)
class Entry:
    """One finished picture."""

    source: str
    """Address of the source, without secrets."""
    source_bytes: int
    source_mtime_ns: int
    """0 if the store does not report it."""
    target: str
    """Path below the output folder."""
    target_bytes: int
    target_sha256: str
    model: str
    model_sha256: str
    """SHA-256 of the model file."""


class Ledger:
    """Finished pictures of one output folder. Only one run at a time may write to it."""

    def __init__(self, output: str) -> None:
        self._folder = storage.join(output, FOLDER)

    def collect(self) -> tuple[dict[str, Entry], set[str]]:
        """Merge the files of all batches into one; called by the driver before any work.

        Returns:
            The finished pictures by target, and all targets that a batch ever started.

        Raises:
            OutputError: the folder cannot be read or written.
        """
        finished: dict[str, Entry] = {}
        begun: set[str] = set()
        _merge(self._rows(self._file("finished.jsonl")), finished, begun)
        found = storage.list_files(storage.join(self._folder, "batches"), recursive=False) or []
        with ThreadPoolExecutor(READERS, thread_name_prefix="srsdk-ledger") as pool:
            for rows in pool.map(self._rows, [file.address for file in found]):
                _merge(rows, finished, begun)
            if found:
                lines = [{"entry": asdict(finished[target])} for target in sorted(finished)]
                # targets that were started but not finished stay marked as ours
                opened = {"targets": sorted(begun - set(finished))}
                self._write("finished.jsonl", [*lines, opened])
                list(pool.map(storage.delete, [file.address for file in found]))
        return finished, begun | set(finished)

    def attempts(self, key: str) -> dict[str, int] | None:
        """Return how often each picture of a batch was tried alone, or None for a new batch."""
        rows = self._rows(self._file("batches", f"{key}.begun"))
        return rows[0]["alone"] if rows else None

    def begin(self, key: str, targets: Sequence[str], alone: dict[str, int] | None = None) -> None:
        """Record which targets a batch is about to write.

        Raises:
            OutputError: the record cannot be written.
        """
        self._write(f"batches/{key}.begun", [{"targets": list(targets), "alone": alone or {}}])

    def finish(self, key: str, rows: Iterable[dict[str, Any]]) -> None:
        """Record the rows of a finished batch; rows with an `entry` are finished pictures.

        Raises:
            OutputError: the record cannot be written.
        """
        self._write(f"batches/{key}.jsonl", rows)

    def rows_of(self, key: str) -> list[dict[str, Any]]:
        """Return the rows of a finished batch, or an empty list if it is not finished."""
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


def _merge(rows: list[dict[str, Any]], finished: dict[str, Entry], begun: set[str]) -> None:
    for row in rows:
        begun.update(row.get("targets", ()))
        if row.get("entry"):
            finished[row["entry"]["target"]] = Entry(**row["entry"])


def batch_key(values: Sequence[Any]) -> str:
    """Return a key for a batch, the same for the same batch on every machine."""
    return hashlib.sha256(json.dumps(list(values)).encode("utf-8")).hexdigest()[:32]
