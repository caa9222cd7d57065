"""The options of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import srsdk
from srsdk import cli_pictures, models, models_cli, tune_cli, verify
from srsdk.engines import ALL_BACKENDS


def make_parser(
    commands: Mapping[str, Callable[[argparse.Namespace], int]],
) -> argparse.ArgumentParser:
    """Return the parser of all options; its results' `run` is one of `commands`, by name."""
    parser = argparse.ArgumentParser(prog="srsdk", description="Image super-resolution.")
    parser.add_argument("--version", action="version", version=f"srsdk {srsdk.__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is chosen and why")
    several = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, add, help_ in (
        ("upscale", _add_upscale, "upscale pictures and folders of pictures"),
        ("video", _add_video, "upscale a video file"),
        ("compare", _add_compare, "put two pictures side by side"),
        ("demo", _add_demo, "open a page to drop a picture on"),
        ("info", models_cli.add_info_arguments, "show what a model file says of itself"),
        ("models", models_cli.add_models_arguments, "list the models that are shipped"),
        ("verify", verify.add_arguments, "say whether a model file is the one that is meant"),
        ("tune", tune_cli.add_arguments, "find what is fastest on this machine"),
        ("doctor", _add_doctor, "show what works here, and what mends the rest"),
    ):
        command = several.add_parser(name, help=help_)
        add(command)
        command.set_defaults(run=commands[name])
    return parser


def _add_upscale(command: argparse.ArgumentParser) -> None:
    command.add_argument("sources", nargs="+", type=_place, metavar="IN", help="files or folders")
    command.add_argument(
        "-o",
        "--output",
        type=_place,
        required=True,
        metavar="OUT",
        help="a picture file (for one IN file) or a folder, made if missing",
    )
    command.add_argument(
        "-r", "--recursive", action="store_true", help="folders of folders too; keeps the tree"
    )
    cli_pictures.add_arguments(command)
    _add_running(command)
    command.add_argument("--jobs", type=_count, help="pictures at a time; each takes memory")
    command.add_argument("--report", type=Path, metavar="FILE", help="append a JSON line for each")
    command.add_argument("--force", action="store_true", help="replace files that exist")
    command.add_argument(
        "--compare", action="store_true", help="also write bicubic and result side by side"
    )
    _add_ray(command.add_argument_group("many machines (srsdk[ray])"))


def _add_ray(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="over a Ray cluster, or one begun here for this run; IN and OUT may be s3://... too",
    )
    group.add_argument("--workers", type=_count, help="processes (as many as there is room for)")
    group.add_argument("--cpus-per-worker", type=float, default=1, metavar="N", help="1")
    group.add_argument("--gpus-per-worker", type=float, default=0, metavar="N", help="0")
    group.add_argument("--batch", type=_count, default=16, help="pictures at a time for each (16)")


def _add_video(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=Path, metavar="IN", help="what FFmpeg reads")
    command.add_argument("target", type=Path, metavar="OUT", help=".mkv holds everything")
    _add_model(command)
    command.add_argument("--codec", help="an encoder of FFmpeg, such as libx265")
    command.add_argument("--crf", type=int, help="the encoder's quality; lower is better")
    command.add_argument("--preset", help="the encoder's speed, such as veryfast")
    command.add_argument("--force", action="store_true", help="replace OUT, begin anew")
    command.add_argument("--resume", action="store_true", help="go on with an interrupted run")


def _add_compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("a", type=Path, metavar="A", help="a picture; the smaller one is enlarged")
    command.add_argument("b", type=Path, metavar="B", help="a picture")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("compare.html"),
        metavar="OUT",
        help="a page with a slider (.html, the default) or a side-by-side picture",
    )
    command.add_argument("--force", action="store_true", help="replace OUT")


def _add_demo(command: argparse.ArgumentParser) -> None:
    _add_model(command)
    command.add_argument("--port", type=_count, help="of the page (a free one from 7860 on)")


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("--model", help="a shipped model's name (srsdk models), or a file's path")
    command.add_argument("--scale", type=int, choices=(2, 4), help="picks the model (4)")
    command.add_argument(
        "--kind", choices=models.single(), help="of picture, picks the model (photo)"
    )
    _add_running(command)


def _add_running(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tile", type=_tile, default="auto", help="pixels, HEIGHTxWIDTH or auto")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    command.add_argument("--backend", choices=("auto", *ALL_BACKENDS), default="auto")
    command.add_argument("--threads", type=int, help="CPU threads of the backend")
    command.add_argument("--tune", action="store_true", help="run what `srsdk tune` found fastest")


def _add_doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="machine-readable")


def _place(text: str) -> Path | str:
    """A path, or the address of a store, which a Path would garble."""
    return text if "://" in text else Path(text)


def _tile(text: str) -> int | tuple[int, int] | str:
    if text == "auto":
        return text
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: expected auto, 256 or 256x384 (height first)")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive whole number")
    return int(text)
