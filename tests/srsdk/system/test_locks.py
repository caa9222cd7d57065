"""Lock files: one holder at a time, released by the system when a process is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from srsdk.system import locks

HOLD = """
import pathlib, sys
from srsdk.system import locks
assert locks.acquire(pathlib.Path(sys.argv[1])) is not None
print("held", flush=True)
sys.stdin.read()
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    """A second lock is refused until the first is released, which removes the file."""
    path = tmp_path / "lock"
    held = locks.acquire(path)
    assert held is not None
    assert locks.acquire(path) is None
    held.release()
    assert not path.exists()
    again = locks.acquire(path)
    assert again is not None
    again.release()


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    """Another process is refused while the first lives, and its leftover file locks nobody out."""
    path = tmp_path / "lock"
    call = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(call, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert locks.acquire(path) is None
        process.kill()
        process.wait()
    assert path.exists()
    lock = locks.acquire(path)
    assert lock is not None
    lock.release()


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be removed on Windows")
def test_a_removed_file_locks_nobody_out(tmp_path: Path) -> None:
    """A file that was removed under its holder is not the lock of those who come later."""
    path = tmp_path / "lock"
    held = locks.acquire(path)
    path.unlink()
    other = locks.acquire(path)
    assert held is not None
    assert other is not None
    other.release()
    held.release()


def test_no_folder(tmp_path: Path) -> None:
    """A folder that does not exist is an error, not a lock."""
    with pytest.raises(FileNotFoundError):
        locks.acquire(tmp_path / "gone" / "lock")
