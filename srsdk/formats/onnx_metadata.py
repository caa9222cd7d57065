"""Read an ONNX file's metadata without its weights, and refuse files that cost too much to open.

Field numbers: onnx.proto of https://github.com/onnx/onnx. Weights are skipped by seeking, so only
the graph's structure is read from a file of any size.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from srsdk.errors import ModelError
from srsdk.formats.files import check_regular, opened
from srsdk.formats.onnx_limits import Limits
from srsdk.formats.protobuf import BYTES, Cursor, Malformed, Oversized

IR_VERSION, GRAPH, METADATA_PROPS = 1, 7, 14
MAX_METADATA_BYTES = 1 << 20
MAX_METADATA_FIELDS = 1000
MAX_LOCATION_CHARACTERS = 1000


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """Return `metadata_props` of an ONNX file whose graph is small enough to be opened.

    Raises:
        ModelError: missing, not a regular file, empty, not an ONNX file, or beyond a limit of
            `onnx_limits`; or its weights are in a file outside its folder.
    """
    with opened(path, "an ONNX model") as (file, size):
        metadata, limits = _read(file, size, str(path))
    for location in sorted(limits.locations):
        _check_location(path, location)
    return metadata


def check_onnx(file: BinaryIO, size: int, source: str) -> None:
    """Check an ONNX model that is not a file of its own.

    Args:
        file: the model's bytes.
        size: how many.
        source: begins the error message.

    Raises:
        ModelError: not an ONNX model, or beyond a limit of `onnx_limits`.
    """
    _read(file, size, source)


def _read(file: BinaryIO, size: int, source: str) -> tuple[dict[str, str], Limits]:
    cursor = Cursor(file, size)
    limits = Limits(cursor)
    try:
        return _walk(cursor, limits), limits
    except Malformed as error:
        raise ModelError(f"{source} is not an ONNX model, or is truncated: {error}") from error
    except Oversized as error:
        raise ModelError(
            f"{source} is not opened because it would take too long: {error}; simplify its graph "
            "with onnxslim or onnxsim"
        ) from error


def _walk(cursor: Cursor, limits: Limits) -> dict[str, str]:
    metadata: dict[str, str] = {}
    seen, fields, total_bytes = set(), 0, 0
    for number, wire, length in cursor.fields(cursor.size):
        seen.add(number)
        if wire != BYTES:
            continue
        if number != METADATA_PROPS:
            limits.field(number, length)
            continue
        fields, total_bytes = fields + 1, total_bytes + length
        if total_bytes > MAX_METADATA_BYTES or fields > MAX_METADATA_FIELDS:
            raise Oversized(
                f"it has more than {MAX_METADATA_BYTES:,} bytes or {MAX_METADATA_FIELDS:,} fields "
                "of metadata"
            )
        key, value = _string_pair(cursor, cursor.at + length)
        metadata[key] = value
    if not {IR_VERSION, GRAPH} <= seen:
        raise Malformed("it has no IR version or no graph")
    limits.finish()
    return metadata


def _string_pair(cursor: Cursor, end: int) -> tuple[str, str]:
    texts = {1: "", 2: ""}
    for number, wire, length in cursor.fields(end):
        if wire != BYTES:
            continue
        try:
            texts[number] = cursor.text(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed("metadata is not UTF-8") from error
    return texts[1], texts[2]


def _check_location(path: Path, location: str) -> None:
    """Reject external data that a library would look for elsewhere, or wait for.

    Raises:
        ModelError: outside the model's folder, missing, or not a regular file.
    """
    if not location.isprintable() or len(location) > MAX_LOCATION_CHARACTERS:
        raise ModelError(
            f"{path}: its weights are in {location[:200]!r}, expected a name of at most "
            f"{MAX_LOCATION_CHARACTERS} printable characters"
        )
    folder = Path(os.path.realpath(path)).parent
    target = folder / location
    # not `resolve`, which raises on links in a circle
    if folder not in Path(os.path.realpath(target)).parents:
        raise ModelError(
            f"{path}: its weights are in {location[:200]!r}, outside the model's folder; move them "
            "beside the file"
        )
    check_regular(target, f"the weights of {path}")
