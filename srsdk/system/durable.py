"""Write files that survive a power cut, and small records that reveal damage.

A rename alone is not enough: after a power cut the new name may exist without its data. So the data
is synced first, then the file is renamed, then its folder is synced, and only then is it reported
as written (see `fsync(2)` and `rename(2)`; SQLite's atomic commit does the same).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from srsdk.system.paths import discard

BLOCK_BYTES = 1 << 20


class DamagedRecord(ValueError):  # noqa: N818 - says what was found, like the errors of srsdk
    """A record whose length or hash does not match its content."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; on success sync it and rename it to `target`.

    The name cannot be guessed, so that nobody can plant a link there; it is hidden, short and plain
    ASCII, and keeps the suffix, which libraries read.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    temporary = target.with_name(f".{os.urandom(8).hex()}.tmp{target.suffix}")
    try:
        yield temporary
        rename(temporary, target)
    finally:
        discard(temporary)


def rename(temporary: Path, target: Path) -> None:
    """Sync a complete file, rename it to `target`, and sync the folder.

    Raises:
        OSError: the disk is full, or the target cannot be replaced.
    """
    sync(temporary)
    os.replace(temporary, target)
    sync_folder(target.parent)


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
    handle = os.open(folder, os.O_RDONLY)
    try:
        # some network and FUSE file systems do not sync folders
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


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
    try:
        return json.loads(unpack(path.read_bytes()))
    except RecursionError as error:
        raise DamagedRecord("it is nested too deeply") from error


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
