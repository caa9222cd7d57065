"""Encoded pictures that are no files on disk, as source or target: bytes and open files."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeAlias, TypeGuard, cast

from PIL import Image

from srsdk.errors import OutputError, PictureError, UsageError

Encoded: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
"""A picture file by its path, its content, or a binary file that is open for reading."""
Target: TypeAlias = str | os.PathLike[str] | IO[bytes]
"""A path, or a binary file that is open for writing."""
UNNAMED = "the picture"
EXTENSIONS = {"JPG": "JPEG", "TIF": "TIFF", "JP2": "JPEG2000"}
"""Usual names of formats besides Pillow's."""


@dataclass(frozen=True)
class Memory:
    """The content of a picture file, with the few methods of a `Path` that decoding needs."""

    data: bytes
    """The encoded picture."""
    name: str = UNNAMED
    """What messages call it."""

    def open(self, mode: str = "rb") -> BinaryIO:
        """Return a file over the content."""
        assert mode == "rb"
        return io.BytesIO(self.data)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Sink:
    """An open binary file to write an encoded picture to, and the format."""

    file: IO[bytes]
    """Open for writing; it stays open."""
    kind: str
    """Format, by Pillow's name."""

    @property
    def suffix(self) -> str:
        """What would name the format in a path."""
        return f".{self.kind.lower()}"

    @property
    def name(self) -> str:
        """What messages call it."""
        return _name_of(self.file, "the output")

    def __str__(self) -> str:
        return self.name


Source: TypeAlias = Path | Memory
Place: TypeAlias = Path | Sink
"""Where a result is written."""


def is_encoded(picture: object) -> TypeGuard[Encoded | Memory]:
    """Whether `source_of` takes a picture: a path, bytes or an open file."""
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Memory)
    # a Pillow image and an array have no `read`
    return isinstance(picture, kinds) or callable(getattr(picture, "read", None))


def source_of(picture: Encoded | Memory) -> Source:
    """Return where to decode a picture from; an open file is read from its start to its end.

    Raises:
        PictureError: an address, no bytes, or a file that is opened as text or cannot be read.
    """
    if isinstance(picture, Memory):
        return picture
    if isinstance(picture, (str, os.PathLike)):
        return _path_of(picture, PictureError)
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return _filled(bytes(picture), UNNAMED)
    if not callable(getattr(picture, "read", None)):
        raise PictureError(
            f"got {type(picture).__name__}, expected a path, bytes or an open file: arrays and "
            "images are upscaled by a call, up(picture)"
        )
    name = _name_of(picture, UNNAMED)
    try:
        # as Pillow does: an upload that was just written stands at its end
        if getattr(picture, "seekable", lambda: False)():
            picture.seek(0)
        data: object = picture.read()
    except (OSError, ValueError) as error:
        raise PictureError(f"{name} cannot be read: {error}") from error
    if not isinstance(data, bytes):
        got = f"read() returned {type(data).__name__}"
        raise PictureError(f"{name}: {got}, expected bytes: open the file in mode 'rb'")
    return _filled(data, name)


def target_of(target: Target, picture_format: str | None) -> Place:
    """Return where to write a picture, and check that the format is known.

    Args:
        target: path or open file.
        picture_format: one of Pillow's formats that can be written, such as `png`; None: the
            path's suffix names it.

    Raises:
        UsageError: an open file without a format, or a format that contradicts the suffix.
        OutputError: an unknown format, an address, or a file that is not open for writing.
    """
    if isinstance(target, (str, os.PathLike)):
        path = _path_of(target, OutputError)
        if picture_format is not None and format_named(picture_format) != _by_suffix(path):
            raise UsageError(
                f"format is {picture_format!r}, but {path.name} names another format: omit format, "
                "or change the suffix"
            )
        return path
    if not callable(getattr(target, "write", None)):
        raise OutputError(
            f"got {type(target).__name__}, expected a path or a file that is open for writing"
        )
    if picture_format is None:
        raise UsageError(
            "an open file has no suffix that names the format: pass "
            "options=PictureOptions(format='png')"
        )
    kind, file = format_named(picture_format), cast("object", target)
    if isinstance(file, io.TextIOBase):
        raise OutputError(f"{_name_of(target, 'the output')} is opened as text, expected mode 'wb'")
    return Sink(target, kind)


def format_named(name: str) -> str:
    """Return Pillow's name of a format that it can write, for a name such as `png` or `.jpg`.

    Raises:
        UsageError: no such format.
    """
    Image.init()
    upper = name.upper().removeprefix(".")
    kind = EXTENSIONS.get(upper, upper)
    if kind not in Image.SAVE:
        raise UsageError(f"format is {name!r}, expected png, jpeg, webp, avif, tiff or gif")
    return kind


def _by_suffix(path: Path) -> str | None:
    return Image.EXTENSION.get(path.suffix.lower())


def _path_of(name: str | os.PathLike[str], kind: type[PictureError | OutputError]) -> Path:
    text = os.fsdecode(name)
    # one slash, because a `Path` drops the second; a drive of Windows has one letter
    is_url = re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) is not None
    if is_url and not os.path.isdir(os.path.dirname(text)):
        raise kind(f"{text} is a URL, and srsdk opens none: download it, and pass its bytes")
    return Path(text)


def _filled(data: bytes, name: str) -> Memory:
    if not data:
        raise PictureError(f"{name} is empty, expected the content of a picture file")
    return Memory(data, name)


def _name_of(file: Any, otherwise: str) -> str:
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and name else otherwise
