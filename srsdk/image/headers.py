"""Read sizes from file headers that Pillow checks too late, and reveal cut JPEG files.

Pillow decodes an icon while it opens it, and allocates the canvas of a WebP file; only then does it
look at the number of pixels. libjpeg fills what is missing in a cut file with gray.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from srsdk.errors import PictureError
from srsdk.image.streams import Source

Size = tuple[int, int]
"""Height, width."""

ICON = b"\0\0\1\0"
_PNG = b"\x89PNG\r\n\x1a\n"
_HUFFMAN = (0xC0, 0xC1, 0xC2)
"""Markers of JPEG frames with Huffman coding: baseline, extended, progressive (ITU-T T.81)."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_HEAD_BYTES = 1 << 20
"""Where the frame of a JPEG file must begin: after metadata of any kind."""


def check_early(
    path: Source, check: Callable[[int, int], None], check_memory: Callable[[int], None]
) -> None:
    """Check what Pillow allocates while it opens a file.

    Args:
        path: the file.
        check: called with (height, width) of each picture of an icon and of a WebP file's canvas.
        check_memory: called with the bytes of a file that is read as a whole.

    Raises:
        PictureError: raised by the checks, or the file is an icon with a damaged directory.
    """
    with path.open("rb") as file:
        head = file.read(30)
        if head[8:12] == b"WEBP" or head[4:8] == b"ftyp":
            check_memory(_size(file))
        if head.startswith(ICON):
            for height, width in icon_sizes(file):
                check(height, width)
        elif head[:4] == b"RIFF" and head[8:12] == b"WEBP" and (size := _webp_size(head)):
            check(*size)


def _size(file: BinaryIO) -> int:
    before = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(before)
    return size


def icon_sizes(file: BinaryIO) -> list[Size]:
    """Return the sizes of all pictures in an icon, from their own headers; at most 65,535.

    Raises:
        PictureError: damaged.
    """
    file.seek(4)
    (count,) = _unpacked("<H", file.read(2))
    table = file.read(16 * count)
    _unpacked(f"{16 * count}s", table)
    return [_icon_size(file, *entry) for entry in struct.iter_unpack("<BB6xII", table)]


def _icon_size(file: BinaryIO, width: int, height: int, _: int, offset: int) -> Size:
    file.seek(offset)
    head = file.read(24)
    if head.startswith(_PNG):
        columns, rows = _unpacked(">II", head[16:24])
        return rows, columns
    if len(head) >= 16 and head[:4] == b"\x28\0\0\0":
        # a bitmap without its file header: the height counts the mask too
        columns, rows = _unpacked("<ii", head[4:12])
        return abs(rows) // 2, abs(columns)
    return height or 256, width or 256


def _webp_size(head: bytes) -> Size | None:
    """Return the canvas size of a WebP file (RFC 9649, section 2)."""
    kind = head[12:16]
    if kind == b"VP8X" and len(head) == 30:
        return _three(head[27:30]) + 1, _three(head[24:27]) + 1
    if kind == b"VP8 " and len(head) == 30:
        width, height = _unpacked("<HH", head[26:30])
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L" and len(head) >= 25:
        (bits,) = _unpacked("<I", head[21:25])
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    return None


def _three(data: bytes) -> int:
    return int.from_bytes(data, "little")


def check_jpeg(path: Source) -> None:
    """Refuse a JPEG file that is too short for its pixels.

    Huffman coding takes at least one bit for each block of 8x8 pixels, so a file of 461 bytes that
    claims 36 megapixels is mostly missing.

    Raises:
        PictureError: names its bytes and the fewest that its pixels take.
    """
    with path.open("rb") as file:
        found = _jpeg_frame(file.read(_HEAD_BYTES))
        size = _size(file)
    if found is None or found[0] not in _HUFFMAN:
        return
    height, width = found[1]
    least = -(-height // 8) * -(-width // 8) // 8
    if size < least:
        raise PictureError(
            f"the file is cut: it holds {size:,} bytes, and {width}x{height} pixels take at least "
            f"{least:,}"
        )


def _jpeg_frame(data: bytes) -> tuple[int, Size] | None:
    """Return the marker and size of a JPEG file's frame, or None if it is not found."""
    for marker, at in _jpeg_segments(data):
        if marker in _FRAMES and at + 7 <= len(data):
            height, width = _unpacked(">HH", data[at + 3 : at + 7])
            return marker, (height, width)
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and offset of each segment before the scan."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xDA:
            return
        yield marker, at + 2
        at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))


def _unpacked(layout: str, data: bytes) -> tuple[int, ...]:
    try:
        return struct.unpack(layout, data)
    except struct.error as error:
        raise PictureError("its header is cut") from error
