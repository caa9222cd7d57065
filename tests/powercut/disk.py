"""What a disk holds after a power cut: only what was synced, and some of the rest.

The model is the worst that POSIX allows, which is worse than ext4 or XFS: data is safe after a
`fsync` of its file, a name (created, renamed or removed) after a `fsync` of its folder. A name may
reach the disk long before the data of its file.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ROOT = 0
"""Number of the folder that all others are in."""

Tree = dict[str, bytes | None]
"""Content of each file and None for each folder, by path below the root."""


@dataclass(frozen=True)
class Name:
    """A file or folder gets a name, and loses an old one if it was renamed."""

    node: int
    folder: int
    name: str
    old: tuple[int, str] | None = None
    """Folder and name that it had before."""
    is_folder: bool = False


@dataclass(frozen=True)
class Remove:
    """A name is removed."""

    folder: int
    name: str


@dataclass(frozen=True)
class Write:
    """Bytes are written."""

    node: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Resize:
    """A file is cut or filled up with zeros."""

    node: int
    size: int


@dataclass(frozen=True)
class Sync:
    """`fsync` of a file or folder returned."""

    node: int
    covers: int
    """Number of events that had happened when it was called."""


@dataclass(frozen=True)
class Say:
    """The run reports something."""

    stream: str
    data: bytes


Event = Name | Remove | Write | Resize | Sync | Say
DATA = ("none", "all", "prefix", "zeros")
"""What is left of the data that was not synced; `zeros`: its length alone."""
NAMES = ("none", "all", "prefix", "folders")
"""What is left of the names that were not synced; `folders`: a prefix in each folder."""


@dataclass(frozen=True)
class Loss:
    """How much of what was not synced reaches the disk."""

    names: str
    data: str
    """One of `DATA`, or `mixed`: another one for each file."""
    seed: int

    @classmethod
    def draw(cls, choice: random.Random) -> Loss:
        """Choose at random."""
        data = choice.choice((*DATA, "mixed"))
        return cls(choice.choice(NAMES), data, choice.randrange(1 << 30))


def after_cut(events: Sequence[Event], cut: int, loss: Loss) -> Tree:
    """Return what the disk holds if the power fails after the first `cut` events."""
    choice = random.Random(loss.seed)
    happened = events[:cut]
    synced: dict[int, int] = defaultdict(int)
    for event in happened:
        if isinstance(event, Sync):
            synced[event.node] = max(synced[event.node], event.covers)
    entries, folders = _names(happened, synced, loss, choice)
    changes: dict[int, list[tuple[int, Write | Resize]]] = defaultdict(list)
    for index, event in enumerate(happened):
        if isinstance(event, Write | Resize):
            changes[event.node].append((index, event))
    tree: Tree = {}
    for path, node in _walk(entries, folders, ROOT, ""):
        tree[path] = (
            None if node in folders else _content(changes[node], synced[node], loss, choice)
        )
    return tree


def live(events: Sequence[Event]) -> Tree:
    """Return what a reader sees after all events, without a power cut."""
    return after_cut(events, len(events), Loss("all", "all", 0))


def _names(
    happened: Sequence[Event], synced: Mapping[int, int], loss: Loss, choice: random.Random
) -> tuple[dict[int, dict[str, int]], set[int]]:
    """Return the entries of each folder, and which nodes are folders."""
    count = len(happened)
    ends: dict[int, int] = {}
    common = {"none": 0, "all": count}.get(loss.names, choice.randint(0, count))
    entries: dict[int, dict[str, int]] = defaultdict(dict)
    folders = {ROOT}
    for index, event in enumerate(happened):
        if not isinstance(event, Name | Remove):
            continue
        if event.folder not in ends:
            ends[event.folder] = choice.randint(0, count) if loss.names == "folders" else common
        if index >= max(synced[event.folder], ends[event.folder]):
            continue
        if isinstance(event, Remove):
            entries[event.folder].pop(event.name, None)
            continue
        if event.is_folder:
            folders.add(event.node)
        if event.old is not None and entries[event.old[0]].get(event.old[1]) == event.node:
            del entries[event.old[0]][event.old[1]]
        entries[event.folder][event.name] = event.node
    return entries, folders


def _walk(
    entries: Mapping[int, Mapping[str, int]], folders: set[int], folder: int, prefix: str
) -> list[tuple[str, int]]:
    found = []
    for name, node in sorted(entries[folder].items()):
        found.append((prefix + name, node))
        if node in folders:
            found += _walk(entries, folders, node, f"{prefix}{name}/")
    return found


def _content(
    changes: Sequence[tuple[int, Write | Resize]], synced: int, loss: Loss, choice: random.Random
) -> bytes:
    """Return what is left of a file's data."""
    kept = [change for index, change in changes if index < synced]
    pending = [change for index, change in changes if index >= synced]
    how = choice.choice(DATA) if loss.data == "mixed" else loss.data
    if how == "prefix":
        pending = pending[: choice.randint(0, len(pending))]
        if pending and isinstance(torn := pending[-1], Write):
            size = choice.randint(0, len(torn.data))
            pending[-1] = Write(torn.node, torn.offset, torn.data[:size])
    content = bytearray()
    for change in kept:
        _apply(content, change)
    for change in pending if how != "none" else ():
        if how == "zeros" and isinstance(change, Write):
            change = Write(change.node, change.offset, bytes(len(change.data)))
        _apply(content, change)
    return bytes(content)


def _apply(content: bytearray, change: Write | Resize) -> None:
    end = change.size if isinstance(change, Resize) else change.offset
    if isinstance(change, Resize):
        del content[end:]
    content.extend(bytes(max(0, end - len(content))))
    if isinstance(change, Write):
        content[end : end + len(change.data)] = change.data
