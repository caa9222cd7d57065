"""Train a network or resume its run: `python -m training RECIPE.toml --data DIR --out RUN`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from training import distributed
from training.checkpoint import CheckpointError
from training.commands import COMMANDS
from training.data import batches
from training.data.pictures import DataError, load_pairs
from training.loop import Progress, TrainingError, train
from training.recipe.schema import Recipe, RecipeError, read_recipe
from training.recipe.show import to_toml
from training.tensorboard import Board, BoardError

EPILOG = """\
other commands:
  python -m training --show RECIPE.toml          print all values of a recipe, with defaults
  python -m training evaluate MODEL --data DIR   score a model; write a table and picture sheets
  python -m training naturalness --data DIR      fit the statistics of the naturalness score (NIQE)
  python -m training pack WEIGHTS -o FILE        convert weights to float16 for publishing
  python -m training drawings FOLDER             write drawings like those drawing_x4 trains on
  torchrun --nproc-per-node N -m training ...    train one network with several processes
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 after a one-line error, 130 after Ctrl-C."""
    args = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        if args and args[0] in COMMANDS:
            COMMANDS[args[0]](args[1:])
            return 0
        arguments = _parser().parse_args(args)
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        _run(arguments)
    except (
        BoardError,
        CheckpointError,
        DataError,
        RecipeError,
        TrainingError,
        OSError,
        ValueError,
    ) as error:
        sys.stderr.write(f"training: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("training: stopped; rerun the command to resume at the last checkpoint\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="TOML file, see training/recipes")
    parser.add_argument(
        "--show", action="store_true", help="print all values of the recipe, then exit"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder of high-resolution pictures, searched recursively, or of CIFAR-10",
    )
    parser.add_argument(
        "--lr",
        type=Path,
        metavar="DIR",
        help="folder of low-resolution pictures, for modes paired and unpaired",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the run; an existing run is resumed"
    )
    parser.add_argument(
        "--test",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder of ground truth, scored at every evaluation; may be repeated",
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="WEIGHTS",
        help="initial weights: of a net of the same size, or of a smaller one of the same kind",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="WEIGHTS",
        help="network to distill from, for recipes with loss.teacher",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder of decoded pictures (default: the user's cache folder)",
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--tensorboard", action="store_true", help="write logs to OUT/tensorboard")
    parser.add_argument("--threads", type=int, metavar="N", help="number of CPU threads")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments.recipe)
    if arguments.show:
        sys.stdout.write(to_toml(recipe))
        return
    if arguments.out is None:
        raise ValueError("--out is missing; add --out DIR, the folder of the run")
    if recipe.mode == "adapt" and arguments.start_from is None:
        raise ValueError("mode adapt needs --start-from WEIGHTS: the net to fine-tune")
    device = _device(arguments.device)
    with distributed.group(device):
        _train(recipe, arguments, device)


def _train(recipe: Recipe, arguments: argparse.Namespace, device: torch.device) -> None:
    folders = batches.Folders(arguments.data, arguments.lr, arguments.cache, arguments.teacher)
    with distributed.first_process_first():
        supply = batches.build(recipe, folders, distributed.shard())
    tests = {folder.name: load_pairs(folder, recipe.scale) for folder in arguments.test}
    first = distributed.is_first()
    board = Board(arguments.out / "tensorboard") if arguments.tensorboard and first else None
    with (
        tqdm(total=recipe.steps, unit="step", smoothing=0.01, disable=not first) as bar,
        logging_redirect_tqdm(),
    ):

        def show(progress: Progress) -> None:
            bar.update(progress.step - bar.n)
            bar.set_postfix(loss=f"{progress.loss:.5f}", refresh=False)

        weights = train(
            recipe,
            supply.source,
            arguments.out,
            tests=tests,
            holdout=supply.holdout,
            start_from=arguments.start_from,
            on_step=show,
            device=device,
            board=board,
        )
    if board is not None:
        board.close()
    if first:
        logging.getLogger(__name__).info("wrote %s", weights)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name}: no such device; allowed: cpu, cuda, cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: torch finds no NVIDIA GPU; use --device cpu")
    if name == "cuda":
        # torchrun numbers the processes of a machine: each uses the GPU with its number
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device
