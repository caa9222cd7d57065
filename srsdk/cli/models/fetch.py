"""`srsdk fetch NAME --from FILE_OR_URL --sha256 HEX`: store a model file under a name.

Of all commands and functions of srsdk, this is the one that downloads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from srsdk.cli.terminal import one_line, progress, say
from srsdk.inference.planner import parse_bytes
from srsdk.models.cards import CHECKPOINTS, RUNNABLE, Card, license_note
from srsdk.scheduling.context import Progress

MB = 1_000_000
EPILOG = f"""\
The file is one of {", ".join((*RUNNABLE, *CHECKPOINTS))}.
It is kept in the folder of SRSDK_MODELS, or of this user's data, with its license and source.
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk fetch`."""
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = EPILOG
    command.add_argument("name", metavar="NAME", help="name for the model, as Upscaler takes it")
    command.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="FILE_OR_URL",
        help="model file, https URL of one, or entry of openmodeldb (.json)",
    )
    command.add_argument(
        "--sha256", metavar="HEX", help="SHA-256 of the file (required; an entry brings it)"
    )
    command.add_argument(
        "--license",
        metavar="TEXT",
        default="",
        help="license of the weights, as CC-BY-4.0 (default: what the source states)",
    )
    command.add_argument("--author", metavar="TEXT", default="", help="who made the model")
    command.add_argument(
        "--scale", type=int, metavar="N", help="which model of a darktable package (.dtmodel)"
    )
    command.add_argument("--force", action="store_true", help="replace a model of this name")
    command.add_argument(
        "--max-size", metavar="SIZE", default="2GB", help="largest file (default: 2GB)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Fetch a model and show its license."""
    # loads ssl and http, which no other command needs
    from srsdk.models.fetching import MAX_BYTES, fetch
    from srsdk.models.wanted import wanted

    what = wanted(arguments.name, arguments.source, arguments.sha256)
    stated = arguments.license or (what.entry.license if what.entry else "")
    if what.is_url:
        say(f"fetching {what.source}" + (f" ({stated})" if stated else ""))
    with progress(what.name, "megabyte") as shown:
        card = fetch(
            what,
            license_text=one_line(arguments.license),
            author=one_line(arguments.author),
            scale=arguments.scale,
            force=arguments.force,
            max_bytes=parse_bytes(arguments.max_size) or MAX_BYTES,
            report=_in_megabytes(shown),
        )
    for line in _lines(card):
        sys.stdout.write(f"{one_line(line)}\n")
    return 0


def _in_megabytes(shown: Progress | None) -> Callable[[int, int], None] | None:
    if shown is None:
        return None
    last = 0

    def report(done: int, total: int) -> None:
        nonlocal last
        megabytes = -(-done // MB)
        if megabytes > last:
            last = megabytes
            shown(megabytes, -(-total // MB))

    return report


def _lines(card: Card) -> list[str]:
    """Return what was stored, on what terms, and how to use it."""
    author = f" by {card.author}" if card.author else ""
    lines = [f"{card.path}  {card.size_bytes / MB:.1f} MB, SHA-256 as expected"]
    if card.license:
        lines.append(f"license: {card.license}{author}")
    if note := license_note(card.license):
        lines.append(f"note: {note}")
    if card.path.suffix in CHECKPOINTS:
        lines.append(
            "these are PyTorch weights: in a checkout of srsdk, python -m export "
            f"{card.path} -o models writes the .onnx file that srsdk runs"
        )
    else:
        lines.append(f"to use it: srsdk upscale IN -o OUT --model {card.name}")
    return lines
