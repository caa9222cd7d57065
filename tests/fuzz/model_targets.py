"""Fuzz targets for what a model file says: manifests, ONNX graphs, TensorRT plans."""

from __future__ import annotations

import contextlib
import json

from srsdk.cli import info
from srsdk.errors import ModelError, UsageError
from srsdk.formats.onnx_metadata import read_onnx_metadata
from srsdk.formats.onnx_rewrite import mixed, with_float_boundary
from srsdk.formats.tensorrt_plan import read_plan_header
from srsdk.manifest import METADATA_KEY, Manifest, parse_manifest, read_manifest
from srsdk.system.text import plain
from tests.fuzz.workplace import check_message, stored


def manifest(data: bytes) -> None:
    """Parse a manifest: our own error, or a value that can be shown and round-trips."""
    try:
        parsed = parse_manifest(data.decode("utf-8", "surrogateescape"), source="fuzz")
    except ModelError as error:
        check_message(str(error))
        return
    _check(parsed)


def onnx(data: bytes) -> None:
    """Read an ONNX file: its metadata, and the two graph rewrites."""
    path = stored("model.onnx", data)
    with contextlib.suppress(ModelError):
        text = read_onnx_metadata(path).get(METADATA_KEY)
        if text is not None:
            _check(parse_manifest(text, source="fuzz"))
    with contextlib.suppress(ModelError):
        with_float_boundary(data)
    with contextlib.suppress(ModelError, UsageError):
        mixed(data, data, 0.5)


def plan(data: bytes) -> None:
    """Read the manifest and header of an engine."""
    path = stored("model.engine", data)
    with contextlib.suppress(ModelError):
        read_plan_header(path)
    with contextlib.suppress(ModelError):
        parsed = read_manifest(path)
        if parsed is not None:
            _check(parsed)


def _check(parsed: Manifest) -> None:
    text = parsed.to_json()
    assert parse_manifest(text, source="again").to_json() == text
    values = {"file": "fuzz", **parsed.to_dict()}
    table = info.table(info.flat(values, parsed))
    assert table == "".join(f"{plain(line)}\n" for line in table[:-1].split("\n"))
    json.dumps(values).encode("ascii")
