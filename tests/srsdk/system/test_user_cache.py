"""The user's cache: private, whole or not read, one variable, and never a reason to fail."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from srsdk import doctor
from srsdk.system import user_cache
from tests.disks import make_read_only, small_disk

posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes mean nothing on Windows")


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what was said before."""
    monkeypatch.setattr(user_cache, "_said", set())


@pytest.fixture
def umask() -> Iterator[None]:
    """Let new files be writable by the group, as Debian does."""
    before = os.umask(0o002)
    yield
    os.umask(before)


@posix
def test_files_are_private(tmp_path: Path, umask: None) -> None:
    """Every folder that is made is 0700, every file 0600, and nothing else is left."""
    path = tmp_path / "a" / "b" / "x.json"
    assert user_cache.load(path) is None
    assert user_cache.store(path, b"one")
    assert user_cache.store(path, b"two")
    assert user_cache.load(path) == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert {p.stat().st_mode & 0o777 for p in (path.parent, path.parent.parent)} == {0o700}


def test_damage_is_seen_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file cut or changed anywhere is not used; it can be written again."""
    path = tmp_path / "x.json"
    user_cache.store(path, b"what was measured")
    whole = path.read_bytes()
    for at in range(len(whole)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            caplog.clear()
            path.write_bytes(damaged)
            assert user_cache.load(path) is None
            assert "is damaged and is made again" in caplog.text
    assert user_cache.store(path, b"again")
    assert user_cache.load(path) == b"again"


@posix
def test_what_others_may_write_is_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the file nor its folder; said once, with the command."""
    path = tmp_path / "cache" / "x.json"
    user_cache.store(path, b"mine")
    for target, mode in ((path, 0o620), (path, 0o602), (path.parent, 0o770), (path.parent, 0o707)):
        before = target.stat().st_mode & 0o777
        target.chmod(mode)
        assert user_cache.load(path) is None
        target.chmod(before)
        assert user_cache.load(path) == b"mine"
    assert caplog.text.count("other users own it or can write there") == 1
    assert f"chmod -R go-w {path.parent}" in caplog.text


@posix
def test_what_others_own_is_not_read(tmp_path: Path) -> None:
    """Neither the file nor its folder; only root can give files away."""
    if os.geteuid() != 0:
        pytest.skip("giving a file to another user takes root")
    path = tmp_path / "cache" / "x.json"
    user_cache.store(path, b"mine")
    for target in (path, path.parent):
        os.chown(target, 54321, -1)
        assert user_cache.load(path) is None
        os.chown(target, 0, -1)
        assert user_cache.load(path) == b"mine"


def test_a_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, with the fix, and nothing fails."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("SRSDK_CACHE", str(tmp_path / "file" / "cache"))
    folder = user_cache.folder()
    assert folder is not None
    for _ in range(3):
        assert not user_cache.store(folder / "x.json", b"x")
        assert user_cache.load(folder / "x.json") is None
    assert caplog.text.count("cannot be written") == 1
    assert "set SRSDK_CACHE to another folder" in caplog.text
    check = doctor._cache()
    assert (check.works, check.fix) == (False, "export SRSDK_CACHE=FOLDER")
    assert "cannot be written" in check.found


@pytest.mark.parametrize("size", ["8k", "64k"])
def test_a_full_disk_keeps_nothing_partial(tmp_path: Path, size: str) -> None:
    """Neither a temporary file nor a cut one."""
    with small_disk(tmp_path / "disk", size) as disk:
        path = disk / "cache" / "x.rtx"
        assert not user_cache.store(path, os.urandom(200_000))
        assert not list(path.parent.glob("*"))
        assert not list(path.parent.glob(".*"))
        assert user_cache.load(path) is None


def test_a_read_only_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is there is read; what cannot be written is said once."""
    with small_disk(tmp_path / "disk") as disk:
        path = disk / "cache" / "x.json"
        user_cache.store(path, b"before")
        make_read_only(disk)
        assert user_cache.load(path) == b"before"
        for _ in range(2):
            assert not user_cache.store(path, b"after")
        assert user_cache.load(path) == b"before"
    assert caplog.text.count("cannot be written") == 1


def test_a_user_without_a_home(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no cache then; said once at level info, and by doctor with the fix."""

    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    for name in ("SRSDK_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    with caplog.at_level(logging.INFO, "srsdk"):
        for _ in range(3):
            assert user_cache.folder() is None
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "set SRSDK_CACHE=FOLDER" in caplog.text
    check = doctor._cache()
    assert (check.works, check.fix) == (False, "export SRSDK_CACHE=FOLDER")
    assert "no home directory" in check.found


def test_one_variable_turns_all_of_it_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An empty `SRSDK_CACHE` is a choice, not a fault."""
    monkeypatch.setenv("SRSDK_CACHE", "")
    with caplog.at_level(logging.INFO, "srsdk"):
        assert user_cache.folder() is None
    assert not caplog.records
    assert doctor._cache().works


def test_doctor_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves nothing there."""
    monkeypatch.setenv("SRSDK_CACHE", str(tmp_path / "cache"))
    check = doctor._cache()
    assert check.works
    assert check.found == str(tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_folder_that_cannot_be_trimmed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, and nothing fails; a missing folder is such a one."""
    for _ in range(2):
        user_cache.trim(tmp_path / "missing", ".blob", 1)
    assert caplog.text.count("cannot be trimmed") == 1
