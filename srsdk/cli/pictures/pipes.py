"""`srsdk upscale - -o -`: one picture from standard input or to standard output."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

from srsdk.batch import reports
from srsdk.batch.jobs import is_picture_name
from srsdk.chain import Chain
from srsdk.cli.arguments import STREAM
from srsdk.cli.pictures import options as choices
from srsdk.cli.terminal import progress, say
from srsdk.cli.wording import for_command_line
from srsdk.errors import SrsdkError, UsageError
from srsdk.options import PictureOptions
from srsdk.scheduling.context import Progress


def is_pipe(arguments: argparse.Namespace) -> bool:
    """Return whether standard input or output is used."""
    return STREAM in (*arguments.sources, arguments.output)


def run(arguments: argparse.Namespace, options: PictureOptions) -> int:
    """Upscale one picture.

    Raises:
        UsageError: several pictures, a terminal instead of a pipe, or an option for files.
    """
    source, target = _source(arguments), _target(arguments)
    if target == STREAM:
        options = replace(options, format=arguments.format or "png")
    reports.check(arguments.report)
    name = "standard input" if source == STREAM else Path(source).name
    with (
        reports.lines_to(arguments.report) as append,
        choices.open_models(arguments, "latency") as up,
        progress(name, "tile") as show,
    ):
        _reported(append, source, target, lambda: _upscale(up, arguments, options, target, show))
    if target != STREAM:
        say(f"wrote {target}")
    return 0


def _upscale(
    up: Chain,
    arguments: argparse.Namespace,
    options: PictureOptions,
    target: Path | str,
    show: Progress | None,
) -> None:
    (source,) = arguments.sources
    picture: Path | IO[bytes] = sys.stdin.buffer if source == STREAM else source
    place: Path | IO[bytes] = sys.stdout.buffer if target == STREAM else Path(target)
    up.upscale_file(picture, place, options=options, overwrite=arguments.force, progress=show)


def _reported(
    append: reports.Append, source: Path | str, target: Path | str, work: Callable[[], None]
) -> None:
    began_s = time.monotonic()
    line = {"source": str(source), "target": str(target), "status": "done"}
    error = None
    try:
        work()
    except SrsdkError as failure:
        error = failure
        line |= {"status": "failed"}
    append({**line, "seconds": round(time.monotonic() - began_s, 4), **_text(error)})
    if error is not None:
        raise error


def _text(error: SrsdkError | None) -> dict[str, str]:
    return {} if error is None else {"error": for_command_line(str(error))}


def _source(arguments: argparse.Namespace) -> Path | str:
    first: Path | str = arguments.sources[0]
    if len(arguments.sources) > 1 or Path(first).is_dir():
        raise UsageError("- is one picture, but several were given")
    if arguments.compare:
        raise UsageError("--compare needs files, not -")
    if first == STREAM and sys.stdin.isatty():
        raise UsageError("standard input is a terminal, expected a picture: srsdk upscale - < IN")
    return first


def _target(arguments: argparse.Namespace) -> Path | str:
    """Return the file to write, or `-`; a picture from standard input has no name of its own."""
    output: Path | str = arguments.output or STREAM
    if output == STREAM:
        if sys.stdout.isatty():
            raise UsageError(
                "standard output is a terminal: redirect it to a file, or name one: -o OUT.png"
            )
        return STREAM
    path = Path(output)
    if is_picture_name(path) and not path.is_dir():
        return path
    raise UsageError(
        f"a picture from standard input has no name, expected a file: -o {path}/NAME.png"
    )
