"""Record of finished pictures next to the output, so that the next run can resume.

In the folder `.srsdk` of the output: `finished.jsonl` has one line for each finished picture.
During a run, `batches/KEY.begun` exists for each batch that was started and `batches/KEY.jsonl` for
each finished one. Many workers write, each its own files; only the driver merges them.

Each file begins with its length and SHA-256 (`durable.pack`). Of a damaged file only those lines
are believed whose target still has the size and SHA-256 that they name.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from srsdk.batch import storage
from srsdk.errors import OutputError
from srsdk.system.durable import DamagedRecord, pack, unpack
from srsdk.system.text import plain
from srsdk.system.threads import started_pool

log = logging.getLogger("srsdk")

FOLDER = ".srsdk"
READERS = 32
"""Small files to read at the same time: in an object store each costs a round trip."""
COLUMNS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("source", "target", "status", "error"), str),
    "seconds": (int, float),
}
"""Of a row of a finished batch, which Ray passes on."""

T = TypeVar("T")
S = TypeVar("S")


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
    """SHA-256 of the model file, or of all that its name and the precision stand for."""
    target_mtime_ns: int = -1
    """As read after writing; 0 if the store does not report it, -1 if it was not read."""

    @classmethod
    def of(cls, value: Any) -> Entry:
        """Return the entry that JSON holds.

        Raises:
            DamagedRecord: a field is missing, unknown or of another type.
        """
        try:
            entry = cls(**value)
        except TypeError as error:
            raise DamagedRecord(f"an entry has other fields: {error}") from error
        for each in fields(cls):
            kind: type = int if each.type == "int" else str
            if type(getattr(entry, each.name)) is not kind:
                raise DamagedRecord(f"{each.name} of an entry is not {each.type}")
        return entry


@dataclass
class _File:
    """What a file of the ledger says."""

    address: str
    entries: list[Entry] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    alone: dict[str, int] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    damage: str = ""
    exists: bool = True


class Ledger:
    """Finished pictures of one output folder. Only one run at a time may write to it."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._folder = storage.join(output, FOLDER)

    def collect(self) -> tuple[dict[str, Entry], set[str]]:
        """Merge the files of all batches into one; called by the driver before any work.

        Returns:
            The finished pictures by target, and all targets that a batch ever started.

        Raises:
            OutputError: the folder cannot be read or written.
        """
        found = storage.list_files(storage.join(self._folder, "batches"), recursive=False) or []
        batches = [one.address for one in found if not one.relative.startswith(".")]
        merged = self._file("finished.jsonl")
        files = [self._read(merged), *_concurrently(self._read, batches)]
        finished: dict[str, Entry] = {}
        begun: set[str] = set()
        for file in files:
            finished.update((entry.target, entry) for entry in file.entries)
            begun.update(file.targets)
        if batches or files[0].damage:
            lines = [{"entry": asdict(finished[target])} for target in sorted(finished)]
            # targets that were started but not finished stay marked as ours
            opened = {"targets": sorted(begun - set(finished))}
            self._write("finished.jsonl", [*lines, opened])
            _concurrently(storage.delete, batches)
        return finished, begun | set(finished)

    def attempts(self, key: str) -> dict[str, int] | None:
        """Return how often each picture of a batch was tried alone, or None for a new batch."""
        file = self._read(self._file("batches", f"{key}.begun"))
        return None if file.damage or not file.exists else file.alone

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
        """Return the rows of a finished batch, or an empty list if it is not finished.

        A batch is not finished if a target of it is missing or has changed since.
        """
        file = self._read(self._file("batches", f"{key}.jsonl"))
        is_whole = not file.damage and all(map(_has_columns, file.rows))
        if not is_whole or not all(map(self.is_there, file.entries)):
            return []
        return file.rows

    def is_there(self, entry: Entry, target: storage.Found | None = None) -> bool:
        """Return whether a target still has the content that its entry names.

        Args:
            entry: the entry.
            target: the target as listed just now, to compare size and time; only if the time
                differs, or without it, the content is read.
        """
        if target is not None and target.size_bytes != entry.target_bytes:
            return False
        if target is not None and target.mtime_ns == entry.target_mtime_ns:
            return True
        try:
            data = storage.get(storage.join(self._output, *entry.target.split("/")))
        except OSError:
            return False  # upscaled again, which reports what is wrong
        digest = hashlib.sha256(data).hexdigest()
        return (len(data), digest) == (entry.target_bytes, entry.target_sha256)

    def _read(self, address: str) -> _File:
        """Read a file; the damaged one keeps the entries whose targets prove them.

        Raises:
            OutputError: the file cannot be read.
        """
        try:
            content = storage.get(address)
        except FileNotFoundError:
            return _File(address, exists=False)
        except OSError as error:
            raise OutputError(f"{storage.public(address)} cannot be read: {error}") from error
        try:
            return _parsed(address, unpack(content))
        except DamagedRecord as error:
            entries = [entry for entry in _readable(content) if self.is_there(entry)]
            log.warning(
                "%s is damaged (%s): %d pictures in it were found complete, the others count as "
                "not finished",
                plain(storage.public(address)),
                error,
                len(entries),
            )
            return _File(address, entries, damage=str(error))

    def _write(self, relative: str, rows: Iterable[dict[str, Any]]) -> None:
        address = self._file(*relative.split("/"))
        text = "".join(json.dumps(row) + "\n" for row in rows)
        try:
            storage.put(address, pack(text.encode("utf-8")))
        except OSError as error:
            raise OutputError(f"{storage.public(address)} cannot be written: {error}") from error

    def _file(self, *relative: str) -> str:
        return storage.join(self._folder, *relative)


def _concurrently(work: Callable[[S], T], items: Sequence[S]) -> list[T]:
    if not items:
        return []
    with started_pool(min(READERS, len(items)), "srsdk-ledger") as pool:
        waiting: list[Future[T]] = [pool.submit(work, item) for item in items]
        return [future.result() for future in waiting]


def _parsed(address: str, data: bytes) -> _File:
    """Return what the lines of a file say.

    Raises:
        DamagedRecord: a line is not one that `Ledger` writes.
    """
    file = _File(address)
    for line in data.splitlines():
        row = _object(line)
        file.rows.append(row)
        if row.get("entry"):
            file.entries.append(Entry.of(row["entry"]))
        targets, alone = row.get("targets", []), row.get("alone", {})
        if not isinstance(targets, list) or not all(isinstance(each, str) for each in targets):
            raise DamagedRecord("the targets of a batch are not names")
        if not isinstance(alone, dict) or not all(type(each) is int for each in alone.values()):
            raise DamagedRecord("the attempts of a batch are not numbers")
        file.targets += targets
        file.alone.update(alone)
    return file


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DamagedRecord(f"a line is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DamagedRecord("a line is not an object")
    return row


def _has_columns(row: dict[str, Any]) -> bool:
    return all(isinstance(row.get(name), kind) for name, kind in COLUMNS.items())


def _readable(content: bytes) -> list[Entry]:
    """Return the entries of a damaged file that can still be read."""
    found = []
    for line in content.splitlines():
        try:
            found.append(Entry.of(_object(line).get("entry")))
        except DamagedRecord:
            continue
    return found


def batch_key(values: Sequence[Any]) -> str:
    """Return a key for a batch, the same for the same batch on every machine."""
    return hashlib.sha256(json.dumps(list(values)).encode("utf-8")).hexdigest()[:32]
