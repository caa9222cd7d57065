"""What `-o`, `--format` and the size options say about the names of results."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from srsdk import models
from srsdk.batch.jobs import is_picture_name
from srsdk.batch.naming import Naming, format_of
from srsdk.cli.arguments import STREAM
from srsdk.cli.pictures.options import model_names
from srsdk.errors import UsageError
from srsdk.manifest import read_manifest
from srsdk.options import PictureOptions

WRITABLE = ".png, .jpg, .webp, .avif or .tiff"


def naming(arguments: argparse.Namespace, options: PictureOptions) -> Naming:
    """Return how results are named where `-o` names no file.

    Raises:
        UsageError: the scale is that of a model file which does not state it.
    """
    suffix = f".{arguments.format}" if arguments.format else None
    if arguments.output is not None:
        return Naming(suffix=suffix)
    return Naming(_tag(options, arguments.model, arguments.kind), suffix)


def _tag(options: PictureOptions, model: str | None, kind: str | None) -> str:
    """Return `x4`, `x2.5`, `1920x1080`, `w1920` or `h1080`: what was asked for."""
    if options.width is not None and options.height is not None:
        return f"{options.width}x{options.height}"
    if options.width is not None or options.height is not None:
        return f"w{options.width}" if options.width is not None else f"h{options.height}"
    if options.scale is not None:
        return f"x{options.scale:g}"
    (name,) = model_names(model, kind, None)
    manifest = read_manifest(models.find(name))
    if manifest is None:
        raise UsageError(f"{name} does not state its scale: name the output with -o")
    return f"x{manifest.scale}"


def check_output(output: Path | str | None, picture_format: str | None) -> None:
    """Refuse a name that looks like a file that cannot be written, or contradicts `--format`.

    Raises:
        UsageError: names the suffix.
    """
    if output is None or output == STREAM or Path(output).is_dir():
        return
    path = Path(output)
    if is_picture_name(path):
        if picture_format and format_of(path) != format_of(Path(f"a.{picture_format}")):
            raise UsageError(f"--format {picture_format} contradicts -o {path}: omit one of them")
    # `photos_x2.5` is a folder
    elif re.fullmatch(r"\.[A-Za-z]\w*", path.suffix):
        raise UsageError(
            f"-o {path}: {path.suffix} is not a format that srsdk writes, use {WRITABLE}; for a "
            "folder of this name, create it first"
        )
