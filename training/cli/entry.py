"""Train a network or resume its run: `python -m training RECIPE --data DIR --out RUN`.

RECIPE is a name from `--list`, or the path of a TOML file.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from training.cli import catalog
from training.recipe.schema import read_recipe
from training.recipe.show import to_toml
from training.start import load
from training.usage import EXIT_INTERRUPTED, Parser, UsageError, exit_code

PROGRAM = "python -m training"
COMMANDS = {
    "evaluate": "score a model; write a table and picture sheets",
    "naturalness": "fit the statistics of the naturalness score (NIQE)",
    "pack": "convert weights to float16 for publishing",
    "drawings": "write generated drawings, or pages of clip art, to train on",
    "kernel": "estimate the blur kernel of low-resolution pictures",
}
"""Other commands, each with a line for the help text; they import torch."""
EPILOG = "\n".join(
    [
        "other commands:",
        *(f"  {PROGRAM} {name:<12} {text}" for name, text in COMMANDS.items()),
        f"  {PROGRAM}.assess      score restorers and conditional VAEs",
        "  torchrun --nproc-per-node N -m training ...   train one network with several processes",
        "",
        f"first steps: {PROGRAM} smoke --out runs/smoke",
    ]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 after a failure, 2 for a usage error, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if words and words[0] in COMMANDS:
        # torch takes seconds to import: only for what needs it
        command = getattr(load("training.cli.commands", "training"), words[0])
        return exit_code(f"{PROGRAM} {words[0]}", lambda: command(words[1:]))
    if not words:
        _parser().print_help(sys.stderr)
        return 2
    code = exit_code(PROGRAM, lambda: _run(words))
    if code == EXIT_INTERRUPTED:
        sys.stderr.write("training: run the command again to resume at the last checkpoint\n")
    return code


def _run(words: Sequence[str]) -> None:
    if not words[0].startswith("-"):
        # before its options, which may be those of a mistyped command
        catalog.find(words[0], COMMANDS)
    arguments = _parser().parse_args(words)
    if arguments.list:
        sys.stdout.write(catalog.table(catalog.entries()))
        return
    if arguments.recipe is None:
        raise UsageError("RECIPE is missing; --list shows those that are shipped")
    path = catalog.find(arguments.recipe, COMMANDS)
    recipe = read_recipe(path)
    if arguments.show:
        sys.stdout.write(to_toml(recipe))
        return
    if arguments.out is None:
        raise UsageError(f"--out is missing; add --out runs/{recipe.name}, the folder of the run")
    if recipe.mode == "adapt" and arguments.start_from is None:
        raise UsageError("mode adapt needs --start-from WEIGHTS: the net to fine-tune")
    load("training.cli.run", "training").run(recipe, arguments)


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} RECIPE --out DIR [--data DIR] [option ...]\n"
        f"       {PROGRAM} --list\n"
        f"       {PROGRAM} {{{','.join(COMMANDS)}}} ...",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "recipe", nargs="?", metavar="RECIPE", help="name of a shipped recipe, or a TOML file"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the shipped recipes: purpose, time, needs"
    )
    parser.add_argument(
        "--show", action="store_true", help="print all values of the recipe, with explanations"
    )
    _add_run(parser.add_argument_group("the run"))
    _add_pictures(parser.add_argument_group("pictures"))
    _add_weights(parser.add_argument_group("weights to begin with"))
    return parser


def _add_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the run; an existing run is resumed"
    )
    group.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    group.add_argument("--threads", type=int, metavar="N", help="number of CPU threads")
    group.add_argument("--tensorboard", action="store_true", help="write logs to OUT/tensorboard")


def _add_pictures(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of high-resolution pictures, searched recursively, or of CIFAR-10",
    )
    group.add_argument(
        "--lr",
        type=Path,
        metavar="DIR",
        help="folder of low-resolution pictures, for modes paired, unpaired and adapt",
    )
    group.add_argument(
        "--test",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder of ground truth, scored at every evaluation; may be repeated",
    )
    group.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder of decoded pictures (default: the user's cache folder)",
    )


def _add_weights(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--start-from",
        type=catalog.weights,
        metavar="WEIGHTS",
        help="initial weights: of a net of the same size, or of a smaller one of the same kind; a "
        "file, or the name of shipped weights, such as gan_x2",
    )
    group.add_argument(
        "--teacher",
        type=catalog.weights,
        metavar="WEIGHTS",
        help="network to distill from, for recipes with loss.teacher: a file or a name",
    )
