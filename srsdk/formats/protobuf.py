"""Read protobuf messages field by field, without a schema and without the protobuf package.

Format: https://protobuf.dev/programming-guides/encoding/ .
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from srsdk.errors import ModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 500_000
"""Fields that are read of one file. DAT, the largest network measured, has 186,003 (torch 2.13, its
TorchScript exporter); a file of millions would keep Python busy for seconds."""

_WINDOW_BYTES = 1 << 16
_NUMBER_BYTES = 10
"""Longest number: 64 bits, seven in each byte."""


class Malformed(Exception):  # noqa: N818 - never leaves this folder
    """Bytes that are no protobuf message; the text says why."""


class Oversized(Exception):  # noqa: N818 - never leaves this folder
    """A message beyond a limit; the text says which."""


class Cursor:
    """A position in a file that is read field by field; payloads are skipped, not read.

    Args:
        file: opened for reading bytes.
        size: its size in bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.at = 0
        """Offset of the next byte."""
        self.size = size
        self._file = file
        self._window = b""
        self._start = 0
        self._last = -1  # offset in the window up to which a whole number lies in it
        self._left = MAX_FIELDS

    def fields(self, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield (field number, wire type, value or payload length) up to the offset `end`.

        While a field is yielded, `at` is the start of its payload; the caller may move it.

        Raises:
            Malformed: a field that protobuf does not have, or that ends after `end`.
            Oversized: more than `MAX_FIELDS` fields in this file.
        """
        while self.at < end:
            self._left -= 1
            if self._left < 0:
                raise Oversized(f"it has more than {MAX_FIELDS:,} fields")
            key = self.number()
            number, wire = key >> 3, key & 7
            if wire in (BYTES, VARINT):
                value = self.number()
            elif wire in (FIXED64, FIXED32):
                value = 8 if wire == FIXED64 else 4
            else:
                raise Malformed(f"wire type {wire} at byte {self.at}")
            stop = self.at if wire == VARINT else self.at + value
            if number == 0:
                raise Malformed(f"field number 0 before byte {self.at}")
            if stop > end:
                raise Malformed(f"field {number} of {value} bytes extends past the end of the file")
            yield number, wire, value
            self.at = stop

    def number(self) -> int:
        """Read a number of 1 to 10 bytes."""
        offset = self.at - self._start
        if not 0 <= offset <= self._last:
            offset = self._load()
        value = shift = 0
        for byte in self._window[offset : offset + _NUMBER_BYTES]:
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                self.at += shift // 7
                return value
        if shift == 7 * _NUMBER_BYTES:
            raise Malformed("a number of more than 64 bits")
        raise Malformed("the file ends inside a number")

    def text(self, length: int) -> bytes:
        """Return the next bytes, without moving."""
        offset = self.at - self._start
        if not 0 <= offset <= len(self._window) - length:
            if length > _WINDOW_BYTES:
                self._file.seek(self.at)
                return self._file.read(length)
            offset = self._load()
        return self._window[offset : offset + length]

    def _load(self) -> int:
        """Read the window that begins here; return 0, the offset of `at` in it."""
        self._file.seek(self.at)
        self._window, self._start = self._file.read(_WINDOW_BYTES), self.at
        at_end = self.at + len(self._window) >= self.size
        self._last = len(self._window) - (1 if at_end else _NUMBER_BYTES)
        return 0


Value = int | bytes
"""Value of a field: a number, or the bytes of a string, a message or a fixed-size number."""


def split(message: bytes) -> list[tuple[int, int, Value]]:
    """Split a message into its fields, (field number, wire type, value), in order.

    Raises:
        ModelError: not a protobuf message, or one of too many fields.
    """
    found, at, end = list[tuple[int, int, Value]](), 0, len(message)
    try:
        while at < end:
            if len(found) == MAX_FIELDS:
                raise Malformed(f"a message has more than {MAX_FIELDS:,} fields")
            key, at = _number_at(message, at)
            wire = key & 7
            if wire == VARINT:
                value, at = _number_at(message, at)
                found.append((key >> 3, wire, value))
                continue
            if wire == BYTES:
                length, at = _number_at(message, at)
            else:
                length = {FIXED64: 8, FIXED32: 4}.get(wire, end)
            if at + length > end:
                raise Malformed(f"wire type {wire}, {length} bytes at byte {at}")
            found.append((key >> 3, wire, message[at : at + length]))
            at += length
    except Malformed as error:
        raise ModelError(f"the model's graph cannot be read: {error}") from error
    return found


def _number_at(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at an offset, and the offset after it."""
    value = shift = 0
    for byte in message[at : at + _NUMBER_BYTES]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at + shift // 7
    raise Malformed("the file ends inside a number, or a number has more than 64 bits")


def join(fields: list[tuple[int, int, Value]]) -> bytes:
    """Serialize fields into a message: the inverse of `split`."""
    parts = []
    for number, wire, value in fields:
        parts.append(_encoded(number << 3 | wire))
        if isinstance(value, int):
            parts.append(_encoded(value))
        else:
            parts += [_encoded(len(value)), value] if wire == BYTES else [value]
    return b"".join(parts)


def _encoded(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
