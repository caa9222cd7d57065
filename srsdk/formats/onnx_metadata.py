"""Read an ONNX file's metadata without its weights, with a minimal protobuf parser.

Format: https://protobuf.dev/programming-guides/encoding/ ; field numbers: onnx.proto of
https://github.com/onnx/onnx. The graph (field 7) is skipped by seeking, so only a few kilobytes are
read from a file of any size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from srsdk.errors import ModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
IR_VERSION, GRAPH, METADATA_PROPS = 1, 7, 14
MAX_METADATA_BYTES = 1 << 20


class _Malformed(Exception):  # noqa: N818 - never leaves this file
    pass


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """Return `metadata_props` of an ONNX file.

    Raises:
        ModelError: missing, a folder, empty, or not an ONNX file.
    """
    if path.is_dir():
        raise ModelError(f"{path} is a folder, expected a model file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise ModelError(f"{path} is empty (0 bytes), expected an ONNX model")
            return _walk(file, size)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file") from None
    except _Malformed as error:
        raise ModelError(f"{path} is not an ONNX model, or is truncated: {error}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error


def _walk(file: BinaryIO, size: int) -> dict[str, str]:
    metadata: dict[str, str] = {}
    seen = set()
    for number, length in _fields(file, size):
        seen.add(number)
        if number == METADATA_PROPS:
            if length > MAX_METADATA_BYTES:
                raise _Malformed(f"{length} bytes of metadata")
            key, value = _string_pair(file.read(length))
            metadata[key] = value
        elif length:
            file.seek(length, os.SEEK_CUR)
    if not {IR_VERSION, GRAPH} <= seen:
        raise _Malformed("it has no IR version or no graph")
    return metadata


def _string_pair(data: bytes) -> tuple[str, str]:
    stream, texts = BytesIO(data), {1: "", 2: ""}
    for number, length in _fields(stream, len(data)):
        try:
            texts[number] = stream.read(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise _Malformed("metadata is not UTF-8") from error
    return texts[1], texts[2]


def _fields(stream: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Yield (field number, payload length); the caller consumes exactly that payload."""
    while stream.tell() < end:
        key = _varint(stream)
        number, wire = key >> 3, key & 7
        length = 0
        if wire == VARINT:
            _varint(stream)
        elif wire == BYTES:
            length = _varint(stream)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise _Malformed(f"wire type {wire} at byte {stream.tell()}")
        if number == 0 or stream.tell() + length > end:
            raise _Malformed(f"field {number} of {length} bytes extends past the end of the file")
        yield number, length


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise _Malformed("the file ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _Malformed("a number of more than 64 bits")


Value = int | bytes
"""Value of a field: a number, or the bytes of a string, a message or a fixed-size number."""


def split(message: bytes) -> list[tuple[int, int, Value]]:
    """Split a message into its fields, (field number, wire type, value), in order.

    Raises:
        ModelError: not a protobuf message.
    """
    stream, found = BytesIO(message), list[tuple[int, int, Value]]()
    try:
        while stream.tell() < len(message):
            key = _varint(stream)
            wire = key & 7
            if wire == VARINT:
                found.append((key >> 3, wire, _varint(stream)))
                continue
            length = {FIXED64: 8, FIXED32: 4}.get(wire) or _varint(stream)
            value = stream.read(min(length, len(message)))
            if wire not in (BYTES, FIXED64, FIXED32) or len(value) != length:
                raise _Malformed(f"wire type {wire}, {length} bytes at byte {stream.tell()}")
            found.append((key >> 3, wire, value))
    except _Malformed as error:
        raise ModelError(f"the model's graph cannot be read: {error}") from error
    return found


def join(fields: list[tuple[int, int, Value]]) -> bytes:
    """Serialize fields into a message: the inverse of `split`."""
    parts = []
    for number, wire, value in fields:
        parts.append(_number(number << 3 | wire))
        if isinstance(value, int):
            parts.append(_number(value))
        else:
            parts += [_number(len(value)), value] if wire == BYTES else [value]
    return b"".join(parts)


def _number(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
