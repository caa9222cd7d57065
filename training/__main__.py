"""`python -m training RECIPE.toml --data DIR --out RUN`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from training.checkpoint import CheckpointError
from training.data import DataError, load_pairs
from training.loop import Progress, TrainingError, train
from training.recipe import RecipeError, read_recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Train; return 0, or 1 after one sentence on stderr."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        _run(arguments)
    except (RecipeError, DataError, CheckpointError, TrainingError, OSError, ValueError) as error:
        sys.stderr.write(f"training: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("training: stopped; the same command continues at the last checkpoint\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a TOML file, see training/recipes")
    parser.add_argument("--data", type=Path, required=True, help="folder of HR pictures (nested)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; continues it")
    parser.add_argument(
        "--test",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="score this folder of ground truth now and then; may be repeated",
    )
    parser.add_argument("--start-from", type=Path, metavar="WEIGHTS", help="warm start")
    parser.add_argument("--threads", type=int, help="CPU threads")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments.recipe)
    min_px = recipe.data.patch_px * recipe.scale
    pairs = load_pairs(arguments.data, recipe.scale, min_px=min_px)
    tests = {folder.name: load_pairs(folder, recipe.scale) for folder in arguments.test}
    with tqdm(total=recipe.steps, unit="step", smoothing=0.01) as bar, logging_redirect_tqdm():

        def show(progress: Progress) -> None:
            bar.update(progress.step - bar.n)
            bar.set_postfix(loss=f"{progress.loss:.5f}", refresh=False)

        weights = train(
            recipe,
            pairs,
            arguments.out,
            tests=tests,
            start_from=arguments.start_from,
            on_step=show,
        )
    logging.getLogger(__name__).info("wrote %s", weights)


if __name__ == "__main__":
    sys.exit(main())
