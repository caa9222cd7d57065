"""`srsdk compare`: put two images side by side or behind a slider."""

from __future__ import annotations

import argparse
from pathlib import Path

from srsdk.cli.terminal import say
from srsdk.image import comparison
from srsdk.inference.planner import parse_bytes


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk compare`."""
    command.add_argument(
        "a",
        type=Path,
        metavar="A",
        help="first image; the smaller of the two is enlarged with bicubic",
    )
    command.add_argument("b", type=Path, metavar="B", help="second image")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("compare.html"),
        metavar="OUT",
        help="HTML page with a slider, or side-by-side image (default: compare.html)",
    )
    command.add_argument("--force", action="store_true", help="overwrite OUT")
    command.add_argument(
        "--max-memory",
        type=parse_bytes,
        metavar="BYTES",
        help="memory limit, such as 1.5GB (default: 4/5 of the available memory)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Put two pictures side by side or behind a slider."""
    comparison.compare(
        arguments.a,
        arguments.b,
        arguments.output,
        overwrite=arguments.force,
        limit_bytes=arguments.max_memory,
    )
    say(f"wrote {arguments.output}")
    return 0
