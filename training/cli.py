"""`python -m training RECIPE.toml --data DIR --out RUN`: train, or continue, one network."""

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

from training import distributed, sources
from training.board import Board, BoardError
from training.checkpoint import CheckpointError
from training.commands import COMMANDS
from training.data import DataError, load_pairs
from training.loop import Progress, TrainingError, train
from training.recipe import Recipe, RecipeError, read_recipe
from training.show import to_toml

EPILOG = """\
python -m training --show RECIPE.toml          every value of a recipe, defaults included
python -m training evaluate MODEL --data DIR   a table and a picture sheet
python -m training naturalness --data DIR      fit the statistics behind the naturalness score
python -m training pack WEIGHTS -o FILE        half the size, float16, to be published
python -m training drawings FOLDER             pictures of what drawing_x4 trains on, to look at
torchrun --nproc-per-node N -m training ...    several processes, one network
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Train; return 0, or 1 after one sentence on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        if words and words[0] in COMMANDS:
            COMMANDS[words[0]](words[1:])
            return 0
        arguments = _parser().parse_args(words)
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
        sys.stderr.write("training: stopped; the same command continues at the last checkpoint\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help="a TOML file, see training/recipes")
    parser.add_argument("--show", action="store_true", help="print the whole recipe and stop")
    parser.add_argument("--data", type=Path, help="folder of HR pictures (nested), or CIFAR-10")
    parser.add_argument("--lr", type=Path, help="LR pictures, for modes paired and unpaired")
    parser.add_argument("--out", type=Path, help="folder of the run; continues it")
    parser.add_argument(
        "--test",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="score this folder of ground truth now and then; may be repeated",
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="WEIGHTS",
        help="warm start: a net as large, or a smaller one of the same kind",
    )
    parser.add_argument(
        "--teacher",
        type=Path,
        metavar="WEIGHTS",
        help="the net to learn from, for recipes with loss.teacher",
    )
    parser.add_argument("--cache", type=Path, help="folder for decoded pictures, kept")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    parser.add_argument("--tensorboard", action="store_true", help="log to OUT/tensorboard")
    parser.add_argument("--threads", type=int, help="CPU threads")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments.recipe)
    if arguments.show:
        sys.stdout.write(to_toml(recipe))
        return
    if arguments.out is None:
        raise ValueError("--out is missing: the folder of the run")
    if recipe.mode == "adapt" and arguments.start_from is None:
        raise ValueError("mode adapt needs --start-from WEIGHTS: the net to fine-tune")
    device = _device(arguments.device)
    with distributed.group(device):
        _train(recipe, arguments, device)


def _train(recipe: Recipe, arguments: argparse.Namespace, device: torch.device) -> None:
    folders = sources.Folders(arguments.data, arguments.lr, arguments.cache, arguments.teacher)
    with distributed.first_goes_ahead():
        supply = sources.build(recipe, folders, distributed.shard())
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
        raise ValueError(f"--device {name}: this torch sees no NVIDIA GPU")
    if name == "cuda":
        # torchrun numbers the processes of one machine: each takes the GPU of its number
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device
