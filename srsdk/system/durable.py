"""Write files that survive a power cut, and small records that reveal damage.

A rename alone is not enough: after a power cut the new name may exist without its data. So the data
is synced first, then the file is renamed, then its folder is synced, and only then is it reported
as written (see `fsync(2)` and `rename(2)`; SQLite's atomic commit does the same).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from srsdk.system.paths import discard

BLOCK_BYTES = 1 << 20


class DamagedRecord(ValueError):  # noqa: N818 - says what was found, like the errors of srsdk
    """A record whose length or hash does not match its content."""


@contextmanager
def replacing(target: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; on success sync it and rename it to `target`.

    The name cannot be guessed, so that nobody can plant a link there; it is hidden, short and plain
    ASCII, and keeps the suffix, which libraries read.

    Args:
        target: the file to write.
        overwrite: replace a file that is there, or has appeared meanwhile.

    Raises:
        FileExistsError: the target exists and may not be replaced.
        OSError: the disk is full, or the file cannot be written.
    """
    temporary = target.with_name(f".{os.urandom(8).hex()}.tmp{target.suffix}")
    try:
        yield temporary
        rename(temporary, target, overwrite=overwrite)
    finally:
        discard(temporary)


def rename(temporary: Path, target: Path, *, overwrite: bool = True) -> None:
    """Sync a complete file, rename it to `target`, and sync the folder.

    Raises:
        FileExistsError: the target exists and may not be replaced.
        OSError: the disk is full, or the target cannot be replaced.
    """
    sync(temporary)
    if overwrite:
        os.replace(temporary, target)
    else:
        _rename_new(temporary, target)
    sync_folder(target.parent)


def _rename_new(temporary: Path, target: Path) -> None:
    """Rename a file; fail if another has the name, even if it appeared a moment ago."""
    if os.name == "nt":
        temporary.rename(target)  # fails there if the target exists
        return
    try:
        os.link(temporary, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        # a file system without hard links, such as FAT: the last moment is not covered
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.replace(temporary, target)
    else:
        temporary.unlink()


def sync(path: Path) -> None:
    """Write a file's data to the disk."""
    # Windows syncs only files that are open for writing
    handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, on systems that allow it."""
    if os.name != "posix":
        return  # NTFS journals the entries; a folder cannot be opened
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        os.sync()  # a folder that one may write to but not list: sync all disks instead
        return
    try:
        # some network and FUSE file systems do not sync folders
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, and sync the folders that they appear in.

    Raises:
        OSError: the folder cannot be created.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def make_private(folder: Path) -> None:
    """Create a folder and its missing parents, each for this user only.

    Raises:
        OSError: the folder cannot be created.
    """
    # `mkdir(parents=True)` gives the mode to the last folder only
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def create_private(path: Path) -> BinaryIO:
    """Create a file that only this user may read and write, and open it for writing.

    Raises:
        FileExistsError: there is one.
        OSError: it cannot be created.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def is_private(found: os.stat_result) -> bool:
    """Return whether a file or folder is this user's, and nobody else may write it."""
    # owner and mode mean nothing on Windows
    if os.name != "posix":
        return True
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def pack(data: bytes) -> bytes:
    """Return data behind a line that gives its length and SHA-256."""
    line = json.dumps({"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    return line.encode("ascii") + b"\n" + data


def unpack(content: bytes) -> bytes:
    """Return the data of `pack`.

    Raises:
        DamagedRecord: cut, changed, or not written by `pack`.
    """
    line, _, data = content.partition(b"\n")
    try:
        head = json.loads(line)
        size, digest = head["bytes"], head["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedRecord("it does not begin with its length and SHA-256") from error
    if size != len(data):
        raise DamagedRecord(f"it holds {len(data)} bytes, expected {size}")
    if digest != hashlib.sha256(data).hexdigest():
        raise DamagedRecord("its SHA-256 does not match")
    return data


def write_record(path: Path, value: Any) -> None:
    """Write a JSON value atomically, with its length and SHA-256.

    Raises:
        OSError: the file cannot be written; no partial file is left.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(pack(json.dumps(value, indent=1).encode()))


def read_record(path: Path) -> Any:
    """Return the value of `write_record`.

    Raises:
        DamagedRecord: cut, changed, or not written by `write_record`.
        OSError: the file cannot be read.
    """
    content = unpack(path.read_bytes())
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedRecord("its content is not JSON, or nested too deeply") from error


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, as hex.

    Raises:
        OSError: the file cannot be read.
    """
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()
