"""Durable files and records: nothing is half-written, and damage is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from srsdk.system import durable


def test_a_record_is_read_back(tmp_path: Path) -> None:
    """What is written is what is read, and no temporary file is left."""
    durable.write_record(tmp_path / "run.json", {"parts": [1, 2], "name": "Bär"})
    assert durable.read_record(tmp_path / "run.json") == {"parts": [1, 2], "name": "Bär"}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("content", [b"", b"\n", b"{}\n{}", b"[" * 100_000, b"\xff\n1", b'"a"\n1'])
def test_foreign_content_is_no_record(tmp_path: Path, content: bytes) -> None:
    """A file that `write_record` did not write is called damaged, whatever it holds."""
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(durable.DamagedRecord):
        durable.read_record(tmp_path / "run.json")


def test_every_cut_and_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """No prefix of a record and no record with one changed byte is read as a record."""
    path = tmp_path / "run.json"
    durable.write_record(path, {"frames": 300})
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(durable.DamagedRecord):
            durable.read_record(path)
    for at in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(durable.DamagedRecord):
            durable.read_record(path)


def test_the_file_is_synced_before_and_its_folder_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order that a power cut cannot break: data, name, folder."""
    steps: list[str] = []
    sync, replace, folder = durable.sync, os.replace, durable.sync_folder
    monkeypatch.setattr(durable, "sync", lambda path: (steps.append("file"), sync(path)))
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("rename"), replace(a, b)))
    monkeypatch.setattr(durable, "sync_folder", lambda path: (steps.append("folder"), folder(path)))
    with durable.replacing(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"pixels")
    assert steps == ["file", "rename", "folder"]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    """An exception while the file is written leaves what was there, and nothing else."""
    (tmp_path / "a.png").write_bytes(b"old")

    def fail() -> None:
        with durable.replacing(tmp_path / "a.png") as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
