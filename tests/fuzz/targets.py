"""What is fuzzed: each target takes bytes, and raises only where srsdk has a defect."""

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

from srsdk import cli, cli_pictures, files, jobs, models_cli, pictures
from srsdk._plan import read_plan_header
from srsdk._protobuf import read_onnx_metadata
from srsdk.arguments import make_parser
from srsdk.call import Call
from srsdk.enlarge import Step
from srsdk.errors import ModelError, SrsdkError, UsageError
from srsdk.graph_edit import mixed, with_float_boundary
from srsdk.manifest import METADATA_KEY, Manifest, parse_manifest, read_manifest
from srsdk.memory_plan import checked_tile
from srsdk.options import PictureOptions
from srsdk.terminal import plain
from srsdk.tiles import Array
from training.recipe import RecipeError, read_recipe, recipe_from_dict

MAX_PIXELS = 1 << 18
"""Of a fuzzed picture: the limit itself is tested elsewhere, and small pictures are fast."""
SUFFIXES = (".png", ".jpg", ".tiff", ".webp", ".gif", ".bmp")

_OWNED = tempfile.TemporaryDirectory()
_FOLDER = Path(_OWNED.name)


def manifest(data: bytes) -> None:
    """The manifest's text: an error of ours, or a value that is shown and reads back."""
    try:
        parsed = parse_manifest(data.decode("utf-8", "surrogateescape"), source="fuzz")
    except ModelError as error:
        _shown(str(error))
        return
    _check(parsed)


def onnx(data: bytes) -> None:
    """An ONNX file: its metadata, and the two changes that are made to graphs."""
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
    """An engine's manifest and header."""
    path = _file("model.engine", data)
    with contextlib.suppress(ModelError):
        read_plan_header(path)
    with contextlib.suppress(ModelError):
        parsed = read_manifest(path)
        if parsed is not None:
            _check(parsed)


def picture(data: bytes) -> None:
    """A picture file, into memory and into another file whose format its last byte picks."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    suffix = SUFFIXES[data[-1] % len(SUFFIXES)] if data else ".png"
    source, target = _file("picture/source", data), _FOLDER / f"picture/target{suffix}"
    with contextlib.suppress(SrsdkError):
        pictures.probe(source)
    with contextlib.suppress(SrsdkError):
        files.upscale_any((NEAREST,), source, None, Call())
    try:
        files.upscale_file((NEAREST,), source, target)
    except SrsdkError:
        assert not target.exists(), "an error, and a file under its final name"
    target.unlink(missing_ok=True)
    assert {path.name for path in source.parent.iterdir()} == {source.name}, (
        "something is left over"
    )


def recipe(data: bytes) -> None:
    """A training recipe: an error of ours, or a value that survives its own form."""
    path = _file("recipe.toml", data)
    try:
        read = read_recipe(path)
    except RecipeError as error:
        _shown(str(error))
        return
    assert repr(recipe_from_dict(read.to_dict(), source="fuzz")) == repr(read)


def command_line(data: bytes) -> None:
    """Words between zeros: help, a usage error, or options that can be used."""
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
"""In a model's place: what is fuzzed is the way of the picture to it and back."""


def _upscale_options(arguments: argparse.Namespace) -> int:
    options: PictureOptions = cli_pictures.options(arguments)
    checked_tile(arguments.tile)
    if arguments.ray is not None:
        cli_pictures.check_plain(arguments, options)
    elif isinstance(arguments.output, Path):
        jobs.is_picture_name(arguments.output)
    return 0


PARSER = make_parser({name: lambda _: 0 for name in cli.COMMANDS} | {"upscale": _upscale_options})

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
    table = models_cli.table(models_cli.flat(values, parsed))
    assert table == "".join(f"{plain(line)}\n" for line in table[:-1].split("\n"))
    json.dumps(values).encode("ascii")


def _shown(text: str) -> None:
    """What is said can be printed in UTF-8, and holds no escape sequence."""
    shown = "".join(map(plain, text.splitlines()))
    assert shown.isprintable()
    shown.encode("utf-8")
