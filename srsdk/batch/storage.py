"""Read, write and list files by address: local paths and URLs that Arrow or fsspec supports."""

from __future__ import annotations

import errno
import os
import re
import stat
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from srsdk.batch.walking import Walk
from srsdk.errors import BackendError, OutputError, UsageError
from srsdk.system import durable

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://([^/?]*)([^?]*)(\?.*)?")
"""A single letter before the colon would be a Windows drive."""

WHOLE_OBJECTS = ("s3", "gs", "gcs", "abfs", "az")
"""Stores in which an object appears only when its upload is complete. Writing to a temporary name
is unnecessary there, and renaming would cost a copy."""


@dataclass(frozen=True)
class Found:
    """A file found in a listing."""

    address: str
    relative: str
    """Path below the listed folder; the file name if a single file was listed."""
    size_bytes: int
    mtime_ns: int
    """0 if the store does not report it."""


def absolute(address: str | os.PathLike[str]) -> str:
    """Return an address that is valid in every process: URIs as they are, paths made absolute.

    Paths have forward slashes on Windows too, as Arrow expects.
    """
    text = os.fspath(address)
    return text if _URI.fullmatch(text) else _slashes(os.path.abspath(text))


def is_local(address: str) -> bool:
    """Return whether an address is a local path rather than a URI."""
    return _URI.fullmatch(address) is None


def join(folder: str, *relative: str) -> str:
    """Return the address of a path below a folder; a URI keeps its query."""
    match = _URI.fullmatch(folder)
    if match is None:
        return "/".join([_slashes(folder).rstrip("/"), *relative])
    scheme, host, path, query = match.groups()
    return f"{scheme}://{host}{'/'.join([path.rstrip('/'), *relative])}{query or ''}"


def name(address: str) -> str:
    """Return the last part of an address, without a query."""
    match = _URI.fullmatch(address)
    return (match[3] if match else _slashes(address)).rstrip("/").rpartition("/")[2]


def public(address: str) -> str:
    """Return the address without parts that may be secret: user, password and query."""
    match = _URI.fullmatch(address)
    if match is None:
        return address
    scheme, host, path, _ = match.groups()
    return f"{scheme}://{host.rpartition('@')[2]}{path}"


def list_files(
    address: str, *, recursive: bool, problems: dict[str, str] | None = None
) -> list[Found] | None:
    """Return the files below a folder, sorted, or a file itself; None if nothing exists there.

    Hidden files and folders of a local path are left out.

    Args:
        address: a folder or file.
        recursive: include subfolders.
        problems: gets a message for each local folder or file that cannot be read, by address.

    Raises:
        OutputError: the store cannot be reached or denies access.
    """
    if (local := _local(address)) is not None:
        return _list_locally(local, address, recursive, problems)
    from pyarrow.fs import FileSelector, FileType

    system, path = _opened(address)
    try:
        (info,) = system.get_file_info([path])
        if info.type == FileType.NotFound:
            return None
        if info.type == FileType.File:
            return [Found(address, name(address), info.size, info.mtime_ns or 0)]
        infos = system.get_file_info(FileSelector(path, recursive=recursive))
    except OSError as error:
        raise OutputError(f"{public(address)} cannot be listed: {error}") from error
    prefix = len(path.rstrip("/")) + 1
    files = [(info.path[prefix:], info) for info in infos if info.type == FileType.File]
    return [
        Found(join(address, relative), relative, info.size, info.mtime_ns or 0)
        for relative, info in sorted(files, key=lambda file: file[0])
    ]


def _list_locally(
    top: Path, address: str, recursive: bool, problems: dict[str, str] | None
) -> list[Found] | None:
    try:
        facts = top.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{public(address)} cannot be listed: {error.strerror}") from error
    if not stat.S_ISDIR(facts.st_mode):
        return [Found(address, name(address), facts.st_size, facts.st_mtime_ns)]
    walk = Walk(top, lambda _: True, recursive)
    files = sorted((path.relative_to(top).as_posix(), facts) for path, facts in walk)
    for path, message in walk.problems.items():
        if problems is None:
            raise OutputError(message)
        below = path.relative_to(top).as_posix()
        problems[address if below == "." else join(address, below)] = message
    return [
        Found(join(address, relative), relative, facts.st_size, facts.st_mtime_ns)
        for relative, facts in files
    ]


def mtime_ns(address: str) -> int:
    """Return the time of a file's last change, as a listing does; 0 if the store has none.

    Raises:
        OSError: raised by the store.
    """
    if (local := _local(address)) is not None:
        return local.stat().st_mtime_ns
    system, path = _opened(address)
    return int(system.get_file_info([path])[0].mtime_ns or 0)


def get(address: str) -> bytes:
    """Return a file's bytes.

    Raises:
        FileNotFoundError, OSError: raised by the store.
    """
    if (local := _local(address)) is not None:
        if local.exists() and not local.is_file():
            # reading a pipe that nobody writes would wait without end
            raise OSError(errno.EINVAL, "not a regular file", str(local))
        return local.read_bytes()
    system, path = _opened(address)
    with system.open_input_stream(path) as stream:
        return bytes(stream.read())


def put(address: str, data: bytes) -> None:
    """Write a file completely or not at all; its folder is created.

    On a local disk the file and its folder are synced, which Arrow's streams do not offer.

    Raises:
        OSError: raised by the store.
    """
    if (local := _local(address)) is not None:
        durable.make_folder(local.parent)
        with durable.replacing(local) as temporary_file:
            temporary_file.write_bytes(data)
        return
    system, path = _opened(address)
    folder, _, last = path.rpartition("/")
    if any(kind in system.type_name for kind in WHOLE_OBJECTS):
        with system.open_output_stream(path) as stream:
            stream.write(data)
        return
    system.create_dir(folder, recursive=True)
    # hidden, so that no listing mistakes the leftover of a killed process for a picture
    temporary = f"{folder}/.{uuid.uuid4().hex}.tmp.{last}"
    try:
        with system.open_output_stream(temporary) as stream:
            stream.write(data)
        system.move(temporary, path)
    except OSError:
        _delete(system, temporary)
        raise


def delete(address: str) -> None:
    """Delete a file; does nothing if it does not exist."""
    if (local := _local(address)) is not None:
        local.unlink(missing_ok=True)
        return
    _delete(*_opened(address))


def _local(address: str) -> Path | None:
    """Return the path of a file on a local disk, or None for any other store."""
    if is_local(address):
        return Path(address)
    if not address.lower().startswith("file://"):
        return None
    return Path(_opened(address)[1])


def _slashes(path: str) -> str:
    return path.replace(os.sep, "/")


def _delete(system: Any, path: str) -> None:
    try:
        system.delete_file(path)
    except FileNotFoundError:
        return


def _opened(address: str) -> tuple[Any, str]:
    match = _URI.fullmatch(address)
    if match is None:
        raise UsageError(f"{address} is a path, expected a URL")
    scheme, host, path, query = match.groups()
    system, base = _system(f"{scheme}://{host}/{query or ''}")
    return system, f"{base.rstrip('/')}/{path.strip('/')}"


@lru_cache(maxsize=16)
def _system(root: str) -> Any:
    """Open a file system once: connecting takes longer than upscaling a small picture."""
    try:
        from pyarrow import ArrowInvalid, fs
    except ImportError as error:
        raise BackendError(
            f"access to files by address needs pyarrow ({error}): pip install 'srsdk[ray]'"
        ) from error
    try:
        return fs.FileSystem.from_uri(root)
    except ArrowInvalid as error:
        first = error
    try:
        import fsspec

        system, base = fsspec.core.url_to_fs(root)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"{public(root)}: neither Arrow ({first}) nor fsspec ({error}) supports this address"
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(system)), base
