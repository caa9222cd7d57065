"""Durable files and records: nothing is half-written, and damage is noticed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

    def recorded(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            steps.append(name)
            real(*arguments)

        return run

    monkeypatch.setattr(durable, "sync", recorded("file", durable.sync))
    monkeypatch.setattr(os, "replace", recorded("rename", os.replace))
    monkeypatch.setattr(durable, "sync_folder", recorded("folder", durable.sync_folder))
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


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "a disk without hard links"])
def test_a_file_that_appears_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Without `overwrite`, a file that somebody else wrote since is not replaced."""
    if not links:

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError("no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "a.png"
    with durable.replacing(target, overwrite=False) as temporary:
        temporary.write_bytes(b"ours")
    target.unlink()

    def lose() -> None:
        with durable.replacing(target, overwrite=False) as temporary:
            temporary.write_bytes(b"ours")
            target.write_bytes(b"theirs")

    with pytest.raises(FileExistsError):
        lose()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"theirs"]
