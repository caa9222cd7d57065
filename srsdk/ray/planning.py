"""Plan a run on a Ray cluster: list the pictures and skip those that are finished."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srsdk.batch import jobs, storage, unread
from srsdk.batch.ledger import Entry, Ledger
from srsdk.errors import UsageError
from srsdk.ray.callables import key_of


@dataclass
class Plan:
    """Pictures to upscale, and outcomes known before any work."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Pictures to upscale, as rows for `Upscale`."""
    outcomes: list[dict[str, Any]] = field(default_factory=list)
    """Report rows of all other pictures: `skipped` or `failed`."""
    problems: list[str] = field(default_factory=list)
    """A message for each source that cannot be used."""
    unread: Counter[str] = field(default_factory=Counter)
    """Number of files in the folders that are no pictures that srsdk reads, by suffix."""


def plan(
    sources: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    model: str,
    precision: str = "auto",
    recursive: bool = False,
    force: bool = False,
    report: Path | None = None,
) -> Plan:
    """List the pictures to upscale; skip those that the ledger of `output` records as finished.

    A picture is skipped if source, source size, source time, target, model file and `precision`
    are unchanged; a target is compared by size and time, and by its SHA-256 if the time has
    changed. An existing target that no earlier run started is kept and counts as a failure.

    Raises:
        UsageError: two sources with one target, a target that is a source, or a `report` that is
            either.
        OutputError: a store cannot be reached.
        ModelError: no such model.
    """
    folder, result = storage.absolute(output), Plan()
    if jobs.is_picture_name(Path(storage.name(folder))):
        raise UsageError(
            f"{storage.public(folder)} is a file name, expected an output folder for --ray"
        )
    model_key = key_of(model, precision)
    pictures = list(_pictures(sources, folder, recursive, result))
    _check_collisions(pictures, folder, report)
    ledger = Ledger(folder)
    finished, ours = ledger.collect()
    unknown: dict[str, str] = {}
    listed = storage.list_files(folder, recursive=True, problems=unknown) or []
    there = {file.relative: file for file in listed}
    for found in pictures:
        target = found.relative
        entry = None if force else finished.get(target)
        if error := _unusable(found, folder, unknown):
            result.outcomes.append(_outcome(found, folder, "failed", error))
        elif entry and _is_finished(ledger, entry, found, there.get(target), model_key):
            result.outcomes.append(_outcome(found, folder, "skipped"))
        elif not force and target in there and target not in ours:
            error = f"{target} exists and is not from an earlier run; force=True replaces it"
            result.outcomes.append(_outcome(found, folder, "failed", error))
        else:
            row = {"source": found.address, "target": target}
            facts = {"source_bytes": found.size_bytes, "source_mtime_ns": found.mtime_ns}
            result.rows.append({**row, **facts})
    return result


def _pictures(
    sources: Sequence[str | os.PathLike[str]], folder: str, recursive: bool, result: Plan
) -> Generator[storage.Found, None, None]:
    own = storage.public(folder)
    for source in map(storage.absolute, sources):
        failed: dict[str, str] = {}
        listed = storage.list_files(source, recursive=recursive, problems=failed)
        count = 0
        for found in listed or []:
            address = storage.public(found.address)
            hidden = any(part.startswith(".") for part in found.relative.split("/"))
            inside = source != folder and address.startswith(own + "/")
            if hidden or inside:
                continue
            if jobs.is_picture_name(Path(found.relative)):
                count += 1
                yield found
            else:
                result.unread[Path(found.relative).suffix.lower()] += 1
        result.problems += failed.values()
        if listed is None:
            result.problems.append(f"{storage.public(source)}: no such file or folder")
        elif not count and not failed:
            what = unread.advice(Path(storage.name(source)).suffix)
            hint = "" if recursive else " (-r includes subfolders)"
            result.problems.append(
                f"{storage.public(source)}: {what or f'no pictures in this folder{hint}'}"
            )


def _check_collisions(pictures: list[storage.Found], folder: str, report: Path | None) -> None:
    """Check that no file is written twice, or is a source."""
    seen: dict[str, str] = {}
    local: list[jobs.Job] = []
    for found in pictures:
        source, target = storage.public(found.address), storage.join(folder, found.relative)
        if found.relative in seen:
            both = f"{seen[found.relative]} and {source}"
            raise UsageError(f"{both} would both be written to {found.relative}")
        seen[found.relative] = source
        if storage.public(target) == source:
            raise UsageError(f"{source} would be replaced by its own result")
        if storage.is_local(found.address) and storage.is_local(target):
            local.append(jobs.Job(Path(found.address), Path(target)))
    jobs.check_collisions(local, report)


def _unusable(found: storage.Found, folder: str, unknown: Mapping[str, str]) -> str:
    """Return why a picture cannot be upscaled, or ""."""
    try:
        found.address.encode("utf-8")
    except UnicodeEncodeError:
        return f"{storage.public(found.address)}: its name is not UTF-8, which Ray cannot pass on"
    above = found.relative.split("/")
    for depth in range(len(above) + 1):
        if message := unknown.get(storage.join(folder, *above[:depth])):
            return message
    return ""


def _is_finished(
    ledger: Ledger,
    entry: Entry,
    source: storage.Found,
    target: storage.Found | None,
    model_key: str,
) -> bool:
    return (
        target is not None
        and entry.source == storage.public(source.address)
        and (entry.source_bytes, entry.source_mtime_ns) == (source.size_bytes, source.mtime_ns)
        and entry.model_sha256 == model_key
        and ledger.is_there(entry, target)
    )


def _outcome(found: storage.Found, folder: str, status: str, error: str = "") -> dict[str, Any]:
    return {
        "source": storage.public(found.address),
        "target": storage.public(storage.join(folder, found.relative)),
        "status": status,
        "seconds": 0.0,
        "error": error,
    }
