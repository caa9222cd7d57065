"""What a run has reported as done, and since when."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.powercut.disk import Event, Name, Say, Tree, live

_WROTE = re.compile(r"(?:srsdk: )?wrote (.*?)(?:: .*| \(.*)?")
_EXPORTED = re.compile(r"(\S+) +[\d,]+ bytes .*")


@dataclass(frozen=True)
class Promise:
    """A file that must be there from some event on."""

    index: int
    """Number of the event that gave the promise; it holds for cuts after this event."""
    path: str
    contents: tuple[bytes, ...]
    """What it held then, or was replaced with later."""
    grows: bool = False
    """Lines may follow what it held then."""

    def is_kept(self, tree: Tree) -> bool:
        """Whether a disk holds the file."""
        found = tree.get(self.path)
        if found is None:
            return False
        if self.grows:
            return found.startswith(self.contents[0])
        return found in self.contents


def promises(
    events: Sequence[Event], disk: Path, *, checkpoint: str, journal: str
) -> list[Promise]:
    """Return all promises of a run that ended with exit code 0.

    Args:
        events: what it did.
        disk: where it ran.
        checkpoint: file that is replaced again and again; "" if there is none. A run that goes on
            has saved it.
        journal: file that grows with it.
    """
    versions = complete(events)
    given = [(index, path) for index, path in _reported(events, disk)]
    given += [(len(events) - 1, path) for path in live(events) if _is_final(path, versions)]
    found = [_promise(events, versions, index, path) for index, path in given]
    for index in _saved(events, checkpoint):
        found.append(_promise(events, versions, index, checkpoint))
        found.append(Promise(index, journal, (live(events[:index])[journal] or b"",), grows=True))
    return found


def complete(events: Sequence[Event]) -> dict[str, list[tuple[int, bytes]]]:
    """Return what each file held whenever it was renamed or linked to its name, by path."""
    found = defaultdict(list)
    named: set[int] = set()
    for index, event in enumerate(events):
        if not isinstance(event, Name):
            continue
        is_link = event.node in named
        named.add(event.node)
        if event.old is not None or is_link:
            before = live(events[:index])
            for path, content in live(events[: index + 1]).items():
                if content is not None and before.get(path) != content:
                    found[path].append((index, content))
    return found


def _is_final(path: str, versions: dict[str, list[tuple[int, bytes]]]) -> bool:
    return path in versions and not hidden(path)


def hidden(path: str) -> bool:
    """Whether a file is for the run itself: its name, or that of a folder, begins with a dot."""
    return any(part.startswith(".") for part in path.split("/"))


def _promise(
    events: Sequence[Event], versions: dict[str, list[tuple[int, bytes]]], index: int, path: str
) -> Promise:
    held = live(events[: index + 1]).get(path)
    later = [content for since, content in versions.get(path, []) if since > index]
    return Promise(index, path, (held or b"", *later))


def _reported(events: Sequence[Event], disk: Path) -> Iterator[tuple[int, str]]:
    """Yield each file that a line reported, with the event that completed the line."""
    for index, stream, line in _lines(events):
        target = ""
        if stream == "report" and (row := json.loads(line))["status"] == "done":
            target = row["target"]
        elif stream != "report" and (match := _WROTE.fullmatch(line)):
            target = match[1]
        elif stream == "stdout" and (match := _EXPORTED.fullmatch(line)):
            target = str(disk / match[1])
        if target:
            yield index, os.path.relpath(target, disk)


def _lines(events: Sequence[Event]) -> Iterator[tuple[int, str, str]]:
    open_lines: dict[str, str] = defaultdict(str)
    for index, event in enumerate(events):
        if isinstance(event, Say):
            text = open_lines[event.stream] + event.data.decode(errors="replace")
            *whole, open_lines[event.stream] = text.split("\n")
            yield from ((index, event.stream, line.rpartition("\r")[2]) for line in whole)


def _saved(events: Sequence[Event], checkpoint: str) -> Iterator[int]:
    """Yield when each version of a checkpoint was saved: when the next file is begun."""
    name = os.path.basename(checkpoint)
    replaced = False
    for index, event in enumerate(events):
        if isinstance(event, Name) and checkpoint:
            if event.old is None and replaced:
                yield index
                replaced = False
            replaced |= event.old is not None and event.name == name
