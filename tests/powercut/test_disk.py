"""The model of a disk after a power cut, with logs written by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tests.powercut.disk import (
    DATA,
    NAMES,
    ROOT,
    Event,
    Loss,
    Name,
    Remove,
    Resize,
    Sync,
    Tree,
    Write,
    after_cut,
    live,
)


def states(events: Sequence[Event]) -> list[Tree]:
    """Return every state that may follow a cut after all events."""
    losses = itertools.product(NAMES, (*DATA, "mixed"), range(20))
    found: list[Tree] = []
    for names, data, seed in losses:
        tree = after_cut(events, len(events), Loss(names, data, seed))
        if tree not in found:
            found.append(tree)
    return found


CREATED: list[Event] = [Name(1, ROOT, "a"), Write(1, 0, b"hello")]
SYNCED: list[Event] = [*CREATED, Sync(1, 2)]
B = Name(1, ROOT, "b", old=(ROOT, "a"))
RENAMED: list[Event] = [*SYNCED, B]


def test_a_reader_sees_everything() -> None:
    """Without a cut, all events count."""
    more: list[Event] = [Name(2, ROOT, "d", is_folder=True), Name(1, 2, "c", old=(ROOT, "b"))]
    grown: list[Event] = [Write(1, 7, b"!"), Resize(1, 9), Resize(1, 8)]
    assert live([*RENAMED, *more, *grown]) == {"d": None, "d/c": b"hello\0\0!"}
    assert live([*RENAMED, Remove(ROOT, "b")]) == {}


def test_what_is_not_synced_may_be_lost() -> None:
    """The name, the data, or a part of the data, or there are zeros in its place."""
    found = states(CREATED)
    assert {} in found
    assert {"a": b""} in found
    assert {"a": b"hello"} in found
    assert {"a": bytes(5)} in found
    assert {"a": b"hel"} in found


def test_synced_data_is_kept() -> None:
    """The name may still be missing: its folder was not synced."""
    assert sorted(map(str, states(SYNCED))) == sorted(map(str, [{}, {"a": b"hello"}]))


def test_a_rename_is_all_or_nothing() -> None:
    """There is the old name or the new one, never both; and none where neither was synced."""
    assert all(tree in ({}, {"a": b"hello"}, {"b": b"hello"}) for tree in states(RENAMED))
    known: list[Event] = [*SYNCED, Sync(ROOT, 3), B]
    assert all(tree in ({"a": b"hello"}, {"b": b"hello"}) for tree in states(known))
    assert states([*known, Sync(ROOT, len(known))]) == [{"b": b"hello"}]


def test_a_rename_without_data_is_a_damaged_file() -> None:
    """The name is safe, the data is not."""
    events = [*CREATED, B, Sync(ROOT, 3)]
    assert {"b": b""} in states(events)
    assert {"b": bytes(5)} in states(events)


def test_what_is_replaced_may_stay() -> None:
    """A file keeps its old data until the new name is synced."""
    old: list[Event] = [*RENAMED, Sync(ROOT, 4)]
    new: list[Event] = [Name(2, ROOT, "c"), Write(2, 0, b"new"), Sync(2, 7)]
    events = [*old, *new, Name(2, ROOT, "b", old=(ROOT, "c"))]
    found = states(events)
    assert {"b": b"new"} in found
    assert {"b": b"hello", "c": b"new"} in found
    assert {"b": b"hello"} in found
    assert all(tree["b"] in (b"hello", b"new") for tree in found)


def test_a_sync_covers_what_had_happened_when_it_began() -> None:
    """A write of another thread while it ran is not safe."""
    assert {"a": b""} in states([*CREATED, Sync(1, 1), Sync(ROOT, 1)])


def test_names_in_a_lost_folder_are_lost() -> None:
    """A folder needs a sync of the folder that it is in."""
    inside: list[Event] = [Name(1, ROOT, "d", is_folder=True), Name(2, 1, "a"), Write(2, 0, b"x")]
    events: list[Event] = [*inside, Sync(2, 3), Sync(1, 3)]
    assert {} in states(events)
    assert states([*events, Sync(ROOT, 5)]) == [{"d": None, "d/a": b"x"}]


def test_names_appear_in_order() -> None:
    """In one folder, a later name is never there without an earlier one."""
    events = [Name(number, ROOT, str(number)) for number in range(1, 5)]
    for tree in states(events):
        assert list(tree) == [str(number) for number in range(1, len(tree) + 1)]
