"""Fuzz targets: each takes bytes and raises only if srsdk has a bug."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from srsdk.batch import jobs
from srsdk.cli import info, picture_options
from srsdk.cli.main import COMMANDS, make_parser
from srsdk.errors import ModelError, SrsdkError, UsageError
from srsdk.formats.onnx_metadata import read_onnx_metadata
from srsdk.formats.onnx_rewrite import mixed, with_float_boundary
from srsdk.formats.tensorrt_plan import read_plan_header
from srsdk.image import decode
from srsdk.image.arrays import Array
from srsdk.inference.planner import checked_tile
from srsdk.manifest import METADATA_KEY, Manifest, parse_manifest, read_manifest
from srsdk.options import PictureOptions
from srsdk.scheduling.context import Call
from srsdk.system.text import plain
from srsdk.upscaling import files
from srsdk.upscaling.steps import Step
from training.recipe.schema import RecipeError, read_recipe, recipe_from_dict

MAX_PIXELS = 1 << 18
"""Size limit of a fuzzed picture: small ones are fast, and the limit is tested elsewhere."""
SUFFIXES = (".png", ".jpg", ".tiff", ".webp", ".gif", ".bmp")

_OWNED = tempfile.TemporaryDirectory()
_FOLDER = Path(_OWNED.name)


def manifest(data: bytes) -> None:
    """Parse a manifest: our own error, or a value that can be shown and round-trips."""
    try:
        parsed = parse_manifest(data.decode("utf-8", "surrogateescape"), source="fuzz")
    except ModelError as error:
        _shown(str(error))
        return
    _check(parsed)


def onnx(data: bytes) -> None:
    """Read an ONNX file: its metadata, and the two graph rewrites."""
    path = _file("model.onnx", data)
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
    path = _file("model.engine", data)
    with contextlib.suppress(ModelError):
        read_plan_header(path)
    with contextlib.suppress(ModelError):
        parsed = read_manifest(path)
        if parsed is not None:
            _check(parsed)


def picture(data: bytes) -> None:
    """Upscale a picture file into memory and into a file; the last byte sets the format."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    suffix = SUFFIXES[data[-1] % len(SUFFIXES)] if data else ".png"
    source, target = _file("picture/source", data), _FOLDER / f"picture/target{suffix}"
    with contextlib.suppress(SrsdkError):
        decode.probe(source)
    with contextlib.suppress(SrsdkError):
        files.upscale_any((NEAREST,), source, None, Call())
    try:
        files.upscale_file((NEAREST,), source, target)
    except SrsdkError:
        assert not target.exists(), "an error, but the target exists"
    target.unlink(missing_ok=True)
    assert {path.name for path in source.parent.iterdir()} == {source.name}, "leftover files"


def recipe(data: bytes) -> None:
    """Read a training recipe: our own error, or a value that round-trips."""
    path = _file("recipe.toml", data)
    try:
        read = read_recipe(path)
    except RecipeError as error:
        _shown(str(error))
        return
    assert repr(recipe_from_dict(read.to_dict(), source="fuzz")) == repr(read)


def command_line(data: bytes) -> None:
    """Parse zero-separated arguments: help, a usage error, or valid options."""
    words = [os.fsdecode(word) for word in data.split(b"\0")]
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            arguments = PARSER.parse_args(words)
            arguments.run(arguments)
    except SystemExit as end:
        if end.code not in (0, 2):
            raise AssertionError(end.code) from end
    except UsageError as error:
        _shown(str(error))


def _nearest(rgb: Array, call: Call) -> Array:
    call.report(1, 1)
    return np.repeat(np.repeat(rgb, 2, axis=0), 2, axis=1)


NEAREST = Step("nearest", 2, 1, 1, _nearest, lambda height, width: 1)
"""Stands in for a model: the target fuzzes how a picture is read, prepared and written."""


def _upscale_options(arguments: argparse.Namespace) -> int:
    options: PictureOptions = picture_options.options(arguments)
    checked_tile(arguments.tile)
    if arguments.ray is not None:
        picture_options.check_supported_by_ray(arguments, options)
    elif isinstance(arguments.output, Path):
        jobs.is_picture_name(arguments.output)
    return 0


PARSER = make_parser({name: lambda _: 0 for name in COMMANDS} | {"upscale": _upscale_options})

TARGETS: dict[str, Callable[[bytes], None]] = {
    "manifest": manifest,
    "onnx": onnx,
    "plan": plan,
    "picture": picture,
    "recipe": recipe,
    "command_line": command_line,
}


def _file(name: str, data: bytes) -> Path:
    path = _FOLDER / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def _check(parsed: Manifest) -> None:
    text = parsed.to_json()
    assert parse_manifest(text, source="again").to_json() == text
    values = {"file": "fuzz", **parsed.to_dict()}
    table = info.table(info.flat(values, parsed))
    assert table == "".join(f"{plain(line)}\n" for line in table[:-1].split("\n"))
    json.dumps(values).encode("ascii")


def _shown(text: str) -> None:
    """Check that a message can be printed as UTF-8 and has no escape sequence."""
    shown = "".join(map(plain, text.splitlines()))
    assert shown.isprintable()
    shown.encode("utf-8")
