"""Lock files that the system releases when a process ends, however it ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class Lock:
    """A lock that this process holds until `release`; made by `acquire`."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path, self._handle = path, handle

    def release(self) -> None:
        """Remove the file and let others lock it."""
        if sys.platform != "win32":
            # while the lock is held, so that nobody else's file can be the one removed
            self._path.unlink(missing_ok=True)
        os.close(self._handle)
        if sys.platform == "win32":
            # an open file cannot be removed; if another process has locked it since, it stays
            with suppress(OSError):
                self._path.unlink()


def acquire(path: Path) -> Lock | None:
    """Lock a file, which is created if it is missing; None: it is locked already.

    A second lock in the same process is refused like that of another process.

    Raises:
        OSError: the folder does not exist, or the file system has no locks.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    while True:
        handle = os.open(path, flags, 0o644)
        try:
            locked = _lock(handle)
            current = locked and _is_at(path, handle)
        except BaseException:
            os.close(handle)
            raise
        if current:
            return Lock(path, handle)
        os.close(handle)
        if not locked:
            return None


if sys.platform == "win32":

    def _lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:

    def _lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _is_at(path: Path, handle: int) -> bool:
    """Whether the file is still there: its holder may have removed it before the lock was ours."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False
