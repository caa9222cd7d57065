"""Train one network by its recipe, with all that the command line says."""

from __future__ import annotations

import argparse
import logging
import os

import torch

from training import distributed
from training.cli.progress import progress
from training.data import batches
from training.data.kernel_estimation import with_estimate
from training.data.pictures import load_pairs
from training.loop import train
from training.recipe.schema import Recipe
from training.tensorboard import Board
from training.usage import UsageError

log = logging.getLogger(__name__)


def run(recipe: Recipe, arguments: argparse.Namespace) -> None:
    """Train, or resume the run of the folder `--out`.

    Raises:
        UsageError: the device does not exist.
        ValueError: pictures, weights or a checkpoint cannot be used.
        TrainingError: the run cannot continue.
    """
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = _device(arguments.device)
    with distributed.group(device):
        _train(recipe, arguments, device)


def _train(recipe: Recipe, arguments: argparse.Namespace, device: torch.device) -> None:
    folders = batches.Folders(arguments.data, arguments.lr, arguments.cache, arguments.teacher)
    recipe = with_estimate(recipe, arguments.lr or arguments.data)
    with distributed.first_process_first():
        supply = batches.build(recipe, folders, distributed.shard())
    tests = {folder.name: load_pairs(folder, recipe.scale) for folder in arguments.test}
    first = distributed.is_first()
    board = Board(arguments.out / "tensorboard") if arguments.tensorboard and first else None
    with progress(recipe.steps, on=first) as show:
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
        log.info("wrote %s", weights)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name}: no such device; allowed: cpu, cuda, cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: torch finds no NVIDIA GPU; use --device cpu")
    if name == "cuda":
        # torchrun numbers the processes of a machine: each uses the GPU with its number
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device
