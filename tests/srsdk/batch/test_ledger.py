"""The ledger believes no damaged file, and no entry whose target is gone or has changed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import srsdk
from srsdk.batch import storage
from srsdk.batch.ledger import Entry, Ledger
from srsdk.system import durable

NAMES = ("a.png", "b.png", "sub/c.png")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with three results."""
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() * 100)
    return tmp_path


def entry_of(out: Path, name: str) -> Entry:
    """Return the entry of a result as it lies there."""
    data = (out / name).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    stamp = storage.mtime_ns(str(out / name))
    return Entry("/in/" + name, 5, 6, name, len(data), digest, "gan_x2", "0" * 64, stamp)


def row_of(out: Path, name: str) -> dict[str, Any]:
    """Return the row of a finished picture."""
    entry = dataclasses.asdict(entry_of(out, name))
    columns = {"source": "s", "target": name, "status": "done", "seconds": 0.1, "error": ""}
    return {**columns, "entry": entry}


def finish(out: Path) -> Ledger:
    """Record all results as one batch, without merging it."""
    ledger = Ledger(str(out))
    ledger.begin("key", [*NAMES, "never.png"])
    ledger.finish("key", [row_of(out, name) for name in NAMES])
    return ledger


def test_what_is_recorded_is_read_back(out: Path) -> None:
    """Before and after merging; what was only started stays marked as ours."""
    ledger = finish(out)
    assert [row["target"] for row in ledger.rows_of("key")] == list(NAMES)
    assert ledger.attempts("key") == {}
    for _ in range(2):
        finished, ours = Ledger(str(out)).collect()
        assert set(finished) == set(NAMES)
        assert ours == {*NAMES, "never.png"}
    assert [path.name for path in (out / ".srsdk").rglob("*") if path.is_file()] == [
        "finished.jsonl"
    ]


@pytest.mark.parametrize("file", ["finished.jsonl", "batches/key.jsonl", "batches/key.begun"])
def test_every_cut_is_noticed(out: Path, file: str, caplog: pytest.LogCaptureFixture) -> None:
    """A cut or changed file is said, and only results that match its lines count as finished."""
    finish(out)
    if file == "finished.jsonl":
        Ledger(str(out)).collect()
    path = out / ".srsdk" / file
    whole = path.read_bytes()
    content = {each: each.read_bytes() for each in (out / ".srsdk").rglob("*.*") if each.is_file()}
    for end in range(0, len(whole), 97):
        for each, data in content.items():
            each.parent.mkdir(exist_ok=True)
            each.write_bytes(data)
        path.write_bytes(whole[:end])
        caplog.clear()
        finished, _ = Ledger(str(out)).collect()
        assert f"{path} is damaged" in caplog.text
        assert set(finished) <= set(NAMES)
        for name, entry in finished.items():
            assert entry == entry_of(out, name)
        caplog.clear()
        assert Ledger(str(out)).collect()[0] == finished
        assert "damaged" not in caplog.text  # written anew


def test_a_damaged_file_proves_nothing_by_itself(out: Path) -> None:
    """A target that does not match the line of a damaged file is neither finished nor ours."""
    finish(out)
    Ledger(str(out)).collect()
    path = out / ".srsdk" / "finished.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    (out / "b.png").write_bytes(b"x" * len((out / "b.png").read_bytes()))
    finished, ours = Ledger(str(out)).collect()
    assert set(finished) == {"a.png", "sub/c.png"}
    assert "b.png" not in ours


def test_a_ledger_of_an_older_version(out: Path) -> None:
    """Lines without length and hash are checked against the results, and written anew."""
    rows = [{"entry": dataclasses.asdict(entry_of(out, name))} for name in NAMES]
    for row in rows:
        del row["entry"]["target_mtime_ns"]
    (out / ".srsdk").mkdir()
    path = out / ".srsdk" / "finished.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert set(Ledger(str(out)).collect()[0]) == set(NAMES)
    assert durable.unpack(path.read_bytes()).count(b"\n") == 4


@pytest.mark.parametrize(
    "change",
    [
        {"target_bytes": "500"},
        {"target_bytes": True},
        {"target_sha256": None},
        {"source": 5},
        {"more": 1},
        {"model": ...},
    ],
)
def test_entries_of_other_types(
    out: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A whole file with an entry of wrong types, unknown or missing fields is damaged too."""
    row = row_of(out, "a.png")
    row["entry"] |= change
    row["entry"] = {name: value for name, value in row["entry"].items() if value is not ...}
    ledger = Ledger(str(out))
    ledger.finish("key", [row, row_of(out, "b.png")])
    assert ledger.rows_of("key") == []
    finished, _ = ledger.collect()
    assert set(finished) == {"b.png"}
    assert "is damaged" in caplog.text


@pytest.mark.parametrize(
    "content", [b"[]", b"5", b"{}", b"[" * 100_000, b"\xff", b'{"targets": 5}', b'{"alone": []}']
)
def test_lines_that_are_no_rows(out: Path, content: bytes) -> None:
    """Whatever a packed file holds, it gives no finished picture and no foreign exception."""
    batches = out / ".srsdk" / "batches"
    batches.mkdir(parents=True)
    for name in ("key.jsonl", "key.begun"):
        (batches / name).write_bytes(durable.pack(content))
    ledger = Ledger(str(out))
    assert ledger.rows_of("key") == []
    assert not ledger.attempts("key")
    assert ledger.collect() == ({}, set())


def test_a_batch_whose_target_has_changed_is_not_finished(out: Path) -> None:
    """Its rows are used again only while every target has its size and SHA-256."""
    ledger = finish(out)
    before = (out / "b.png").read_bytes()
    (out / "b.png").write_bytes(before[:-1] + b"!")
    assert ledger.rows_of("key") == []
    (out / "b.png").unlink()
    assert ledger.rows_of("key") == []
    (out / "b.png").write_bytes(before)
    assert len(ledger.rows_of("key")) == 3


def test_a_target_is_compared_with_what_is_there(out: Path) -> None:
    """Size and time decide; where only the time has changed, the content does."""
    ledger, entry, path = Ledger(str(out)), entry_of(out, "a.png"), out / "a.png"

    def listed() -> storage.Found:
        (found,) = storage.list_files(str(path), recursive=False) or []
        return found

    assert ledger.is_there(entry, listed())
    os.utime(path, ns=(0, time.time_ns() - 10**9))
    assert ledger.is_there(entry, listed())
    path.write_bytes(bytes(entry.target_bytes))  # as after a power cut
    assert not ledger.is_there(entry, listed())
    path.write_bytes(b"short")
    assert not ledger.is_there(entry, listed())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_pipe_among_the_results_is_not_waited_for(out: Path) -> None:
    """It is not the target that was written."""
    entry = entry_of(out, "a.png")
    (out / "a.png").unlink()
    os.mkfifo(out / "a.png")
    assert not Ledger(str(out)).is_there(entry)
    (out / ".srsdk").mkdir()
    os.mkfifo(out / ".srsdk" / "finished.jsonl")
    with pytest.raises(srsdk.OutputError, match="not a regular file"):
        Ledger(str(out)).collect()


def test_files_are_synced_before_they_have_their_name(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, rename, folder: in this order, for each file of the ledger."""
    calls: list[str] = []

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            return real(*arguments)

        return call

    for module, name in ((os, "replace"), (durable, "sync"), (durable, "sync_folder")):
        monkeypatch.setattr(module, name, noted(name, getattr(module, name)))
    (out / ".srsdk" / "batches").mkdir(parents=True)
    Ledger(str(out)).begin("key", ["a.png"])
    assert calls == ["sync", "replace", "sync_folder"]


def test_leftovers_of_a_killed_worker(out: Path) -> None:
    """A temporary file that a kill left among the batches is not read."""
    finish(out)
    (out / ".srsdk" / "batches" / ".0123.tmp.jsonl").write_bytes(b'{"ent')
    assert set(Ledger(str(out)).collect()[0]) == set(NAMES)
