"""Read, write and list files by address: local paths and URLs that Arrow or fsspec supports."""

from __future__ import annotations

import os
import re
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from srsdk.errors import BackendError, OutputError, UsageError

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


def list_files(address: str, *, recursive: bool) -> list[Found] | None:
    """Return the files below a folder, sorted, or a file itself; None if nothing exists there.

    Raises:
        OutputError: the store cannot be reached or denies access.
    """
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


def get(address: str) -> bytes:
    """Return a file's bytes.

    Raises:
        FileNotFoundError, OSError: raised by the store.
    """
    system, path = _opened(address)
    with system.open_input_stream(path) as stream:
        return bytes(stream.read())


def put(address: str, data: bytes) -> None:
    """Write a file completely or not at all; its folder is created.

    Raises:
        OSError: raised by the store.
    """
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
    _delete(*_opened(address))


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
        return _system(None), _slashes(address)
    scheme, host, path, query = match.groups()
    system, base = _system(f"{scheme}://{host}/{query or ''}")
    return system, f"{base.rstrip('/')}/{path.strip('/')}"


@lru_cache(maxsize=16)
def _system(root: str | None) -> Any:
    """Open a file system once: connecting takes longer than upscaling a small picture."""
    try:
        from pyarrow import ArrowInvalid, fs
    except ImportError as error:
        raise BackendError(
            f"access to files by address needs pyarrow ({error}): pip install 'srsdk[ray]'"
        ) from error
    if root is None:
        return fs.LocalFileSystem()
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
