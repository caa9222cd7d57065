"""Fuzz targets for what people type: recipes and command lines."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from pathlib import Path

from PIL import Image

from srsdk.batch import jobs
from srsdk.cli.main import COMMANDS, make_parser
from srsdk.cli.pictures import options as picture_options
from srsdk.errors import UsageError
from srsdk.inference.planner import checked_tile
from srsdk.options import PictureOptions
from tests.fuzz.workplace import check_message, stored
from training.recipe.schema import RecipeError, read_recipe, recipe_from_dict

MAX_PIXELS = 1 << 18
"""Restored before each command line, because `--max-pixels` sets it."""


def recipe(data: bytes) -> None:
    """Read a training recipe: our own error, or a value that round-trips."""
    path = stored("recipe.toml", data)
    try:
        read = read_recipe(path)
    except RecipeError as error:
        check_message(str(error))
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
        check_message(str(error))


def _upscale_options(arguments: argparse.Namespace) -> int:
    options: PictureOptions = picture_options.options(arguments)
    checked_tile(arguments.tile)
    if arguments.ray is not None:
        picture_options.check_supported_by_ray(arguments, options)
    elif isinstance(arguments.output, Path):
        jobs.is_picture_name(arguments.output)
    return 0


PARSER = make_parser({name: lambda _: 0 for name in COMMANDS} | {"upscale": _upscale_options})
