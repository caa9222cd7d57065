"""Measure adaptation to unknown blur: `python -m training.assess_kernels --test DIR --out DIR`.

The pictures of a folder are reduced by several kernels. From the reduced pictures alone, and if
`--data` is given from sharp pictures of other scenes, the network is fine-tuned in several ways,
each of which is scored against the truth (PSNR-Y). A killed command resumes where it was.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training import networks
from training.checkpoint import load_weights
from training.cli.catalog import find, weights
from training.data import batches, kernels
from training.data.kernel_estimation import of_folder, with_estimate
from training.data.kernels import Kernel, Plane
from training.data.pictures import Pair, load_pairs
from training.data.resize import Picture, imresize
from training.evaluation.evaluate import network, score
from training.loop import train
from training.recipe.data import DegradationRecipe
from training.recipe.schema import Recipe, read_recipe, recipe_from_dict
from training.usage import Parser, exit_code

log = logging.getLogger(__name__)

GAUSSIANS = (
    Kernel((0.5, 0.5)),
    Kernel((0.8, 0.8)),
    Kernel((1.0, 0.375), 30),
    Kernel((0.625, 0.25), 120),
    Kernel((0.9, 0.6), 75),
)
"""Kernels for all scales: sigmas in *low-resolution* pixels."""
DISKS_PX = (0.75, 1.25)
"""Radii of defocused lenses, low-resolution pixels: no Gaussians, so that the model is wrong."""
UNPAIRED = "unpaired_x4"
"""Recipe that `--unpaired` runs."""
FINER = 8
"""Samples of a disk per pixel and axis."""


def disk(radius_px: float, scale: int) -> Plane:
    """Return the weights of a uniform disk, which sum to 1, like `kernels.taps`."""
    side = scale + 2 * int(np.ceil(radius_px))
    axis = (np.arange(side * FINER) + 0.5) / FINER - side / 2
    inside = axis[None, :] ** 2 + axis[:, None] ** 2 < radius_px**2
    weights: Plane = inside.reshape(side, FINER, side, FINER).mean(axis=(1, 3))
    weights /= weights.sum()
    return weights


def reductions(scale: int) -> Iterator[tuple[str, Kernel | None, Callable[[Picture], Picture]]]:
    """Yield name, kernel (if it is a Gaussian) and reduction, the bicubic one last."""

    def by(weights: Plane) -> Callable[[Picture], Picture]:
        return lambda hr: kernels.reduce(hr, weights, scale)

    for each in GAUSSIANS:
        along, across = each.sigma_px
        kernel = Kernel((along * scale, across * scale), each.angle_deg)
        yield str(kernel), kernel, by(kernels.taps(kernel, scale))
    for radius in DISKS_PX:
        yield f"disk of radius {radius * scale:.1f} px", None, by(disk(radius * scale, scale))
    yield "bicubic", None, lambda hr: imresize(hr, 1 / scale)


def assess(arguments: argparse.Namespace) -> None:
    """Fine-tune and score for every kernel; log a table."""
    recipe = read_recipe(find(arguments.recipe))
    if arguments.steps:
        recipe = replace(recipe, steps=arguments.steps)
    clean = [pair for folder in arguments.test for pair in load_pairs(folder, recipe.scale)]
    rows: list[dict[str, str]] = []
    for name, kernel, reduce in reductions(recipe.scale):
        pairs = [Pair(pair.name, reduce(pair.hr), pair.hr) for pair in clean]
        out = arguments.out / name.replace(" ", "_")
        _write(pairs, out / "lr")
        found = str(of_folder(out / "lr", recipe.scale))
        scores = {"as it is": _score(arguments.start_from, pairs)}
        for way, changed, folders in _ways(recipe, kernel, out / "lr", arguments):
            made = _adapted(changed, folders, out / way.replace(" ", "_"), arguments.start_from)
            scores[way] = _score(made, pairs)
        shown = {way: f"{value:.2f}" for way, value in scores.items()}
        rows.append({"kernel": name, "estimated": found, **shown})
        log.info("%s", rows[-1])
    head = dict.fromkeys(rows[0], "---")
    lines = [list(head), list(head.values())]
    lines += [[row.get(name, "-") for name in head] for row in rows]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    (arguments.out / "table.md").write_text(table, encoding="utf-8")
    log.info("%s", table)


def _ways(
    recipe: Recipe, kernel: Kernel | None, lr: Path, arguments: argparse.Namespace
) -> Iterator[tuple[str, Recipe, batches.Folders]]:
    """Yield name, recipe and folders of each run; the true kernel only if it is a Gaussian."""
    cache = arguments.out / "cache"
    kinds = {"bicubic": DegradationRecipe(), "estimated": DegradationRecipe(kind="estimated")}
    if kernel is not None:
        kinds["true"] = DegradationRecipe(
            kind="gaussian", sigma_px=kernel.sigma_px, angle_deg=kernel.angle_deg
        )
    for name, degradation in kinds.items():
        changed = with_estimate(replace(recipe, degradation=degradation), lr)
        yield f"LR {name}", changed, batches.Folders(lr, cache=cache)
        if arguments.data is not None:
            yield f"sharp {name}", changed, batches.Folders(arguments.data, lr, cache)
    if arguments.data is not None and arguments.unpaired:
        changed = replace(read_recipe(find(UNPAIRED)), steps=arguments.unpaired)
        yield "unpaired", changed, batches.Folders(arguments.data, lr, cache)


def _adapted(recipe: Recipe, folders: batches.Folders, out: Path, start: Path) -> Path:
    supply = batches.build(recipe, folders)
    return train(recipe, supply.source, out, start_from=start)


def _score(path: Path, pairs: Sequence[Pair]) -> float:
    state, facts = load_weights(path)
    recipe = recipe_from_dict(facts["recipe"], source=str(path))
    net = networks.for_recipe(recipe)
    networks.warm_start(net, state)
    return score(network(net.eval()), pairs, recipe.scale).psnr_y_db


def _write(pairs: Sequence[Pair], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, pair in enumerate(pairs):
        path = folder / f"{number:03d}_{pair.name}.png"
        if not path.exists():  # a later time would make another cached set
            Image.fromarray(pair.lr).save(path)


def _run(words: Sequence[str]) -> None:
    parser = Parser(prog="python -m training.assess_kernels", description=__doc__)
    parser.add_argument("--recipe", default="adapt_x4", help="recipe to adapt with")
    parser.add_argument(
        "--start-from", type=weights, default=weights("gan_x4"), metavar="WEIGHTS", help="the net"
    )
    parser.add_argument(
        "--test", type=Path, action="append", required=True, metavar="DIR", help="ground truth"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="sharp pictures of other scenes")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of each run")
    parser.add_argument(
        "--unpaired", type=int, metavar="N", help="measure unpaired_x4 with N steps, too"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="number of CPU threads")
    arguments = parser.parse_args(words)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    assess(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    words = list(sys.argv[1:] if argv is None else argv)
    return exit_code("python -m training.assess_kernels", lambda: _run(words))


if __name__ == "__main__":
    sys.exit(main())
