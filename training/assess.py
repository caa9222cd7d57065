"""Measure networks of the families `ae` and `vae`: `python -m training.assess WEIGHTS --data DIR`.

`ae`: PSNR before and after restoring color noise (RGB) and JPEG (Y). `vae`: PSNR-Y of the mean,
rank correlation of the confidence with the error, coverage of the 90 % interval, next to a parent.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from training import networks
from training.checkpoint import load_weights
from training.data.corruption import TEST_QUALITY, TEST_SIGMA, add_noise, jpeg
from training.data.pictures import Pair, load_pairs
from training.data.resize import Picture
from training.evaluation.evaluate import bicubic, network, score
from training.evaluation.metrics import PEAK, psnr_y
from training.networks.vae import CONFIDENT_WITHIN, ConditionalVae
from training.recipe.schema import recipe_from_dict
from training.usage import Parser, exit_code

Floats = npt.NDArray[np.float64]

COVERAGE = 0.9
SHEET_PX = 160


@dataclass(frozen=True)
class Calibration:
    """Quality of a confidence map; means over pictures."""

    rank_correlation: float
    """Spearman's correlation of low confidence with absolute error, per pixel; 1 is perfect."""
    coverage: float
    """Share of the truth inside the interval that should contain 90 % of it."""


def psnr_rgb(result: Picture, truth: Picture) -> float:
    """Return the PSNR over all samples of two (H, W, 3) uint8 pictures in dB, border included."""
    mean_square = float(np.mean((result.astype(np.float64) - truth) ** 2))
    return float("inf") if mean_square == 0 else 10 * math.log10(PEAK**2 / mean_square)


def rank_correlation(a: Floats, b: Floats) -> float:
    """Return Spearman's rank correlation of two vectors; ties are broken by order."""
    ranks = [values.argsort(kind="stable").argsort().astype(np.float64) for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def coverage(error: Floats, confidence: Floats) -> float:
    """Return the share of errors inside +-b ln 10, which holds 90 % of a Laplace distribution.

    Args:
        error: absolute, 0..1, (..., 3).
        confidence: 0..1, (...,): b is -t / ln(1 - confidence), t = `CONFIDENT_WITHIN`.
    """
    doubt = np.maximum(1.0 - confidence, 1e-30)
    b = CONFIDENT_WITHIN / np.maximum(-np.log(doubt), 1e-12)
    return float(np.mean(error <= (b * -math.log(1 - COVERAGE))[..., None]))


@torch.no_grad()
def predict(net: nn.Module, lr: Picture, eps: Tensor | None = None) -> tuple[Floats, Floats]:
    """Return a VAE's picture, (H, W, 3), and confidence, (H, W), both 0..1."""
    x = torch.from_numpy(lr.copy()).permute(2, 0, 1)[None].float() / 255.0
    picture, sure = net(x, eps)
    return (
        picture[0].clamp(0, 1).permute(1, 2, 0).double().numpy(),
        sure[0, 0].double().numpy(),
    )


def calibration(net: nn.Module, pairs: Sequence[Pair], border_px: int) -> Calibration:
    """Measure a VAE's confidence on pairs, with `border_px` cut off on each side."""
    inside = np.s_[border_px:-border_px, border_px:-border_px]
    correlations, covered = [], []
    for pair in pairs:
        picture, sure = predict(net, pair.lr)
        error = np.abs(picture - pair.hr / 255.0)[inside]
        correlations.append(rank_correlation(1 - sure[inside].ravel(), error.mean(-1).ravel()))
        covered.append(coverage(error, sure[inside]))
    return Calibration(float(np.mean(correlations)), float(np.mean(covered)))


def assess_ae(net: nn.Module, pairs: Sequence[Pair]) -> list[str]:
    """Return the report lines of a restorer."""
    restore = network(net)
    noisy = [add_noise(p.hr, TEST_SIGMA, np.random.default_rng(i)) for i, p in enumerate(pairs)]
    coded = [jpeg(p.hr, TEST_QUALITY) for p in pairs]
    rgb = [
        (psnr_rgb(x, p.hr), psnr_rgb(restore(x), p.hr)) for x, p in zip(noisy, pairs, strict=True)
    ]
    luma = [
        (psnr_y(x, p.hr, border_px=0), psnr_y(restore(x), p.hr, border_px=0))
        for x, p in zip(coded, pairs, strict=True)
    ]
    (before, after), (coded_before, coded_after) = np.mean(rgb, axis=0), np.mean(luma, axis=0)
    return [
        f"color noise, sigma {TEST_SIGMA:.0f}: {before:.2f} -> {after:.2f} dB (RGB)",
        f"JPEG, quality {TEST_QUALITY}: {coded_before:.2f} -> {coded_after:.2f} dB (Y), "
        f"gain {coded_after - coded_before:+.2f}",
    ]


def assess_vae(net: ConditionalVae, pairs: Sequence[Pair], parent: nn.Module | None) -> list[str]:
    """Return the report lines of a conditional VAE and, if given, its parent."""
    scale = net.scale
    measured = calibration(net, pairs, scale)
    lines = [f"mean: {score(network(net), pairs, scale)}"]
    if parent is not None:
        lines.append(f"parent: {score(network(parent), pairs, scale)}")
    return [
        *lines,
        f"bicubic: {score(bicubic(scale), pairs, scale)}",
        f"rank correlation of uncertainty and error: {measured.rank_correlation:.3f}",
        f"coverage of the {COVERAGE:.0%} interval: {measured.coverage:.1%}",
    ]


def sheet(net: nn.Module, pairs: Sequence[Pair]) -> Picture:
    """Lay out crops, one row per picture.

    `ae`: noisy, restored, JPEG, restored, truth. `vae`: nearest, mean, three samples, confidence,
    truth.
    """
    rows = []
    for index, pair in enumerate(pairs):
        if isinstance(net, ConditionalVae):
            columns = _vae_row(net, pair)
        else:
            noisy = add_noise(pair.hr, TEST_SIGMA, np.random.default_rng(index))
            coded = jpeg(pair.hr, TEST_QUALITY)
            columns = [noisy, network(net)(noisy), coded, network(net)(coded), pair.hr]
        top, left = ((side - SHEET_PX) // 2 for side in pair.hr.shape[:2])
        rows.append(np.hstack([c[top : top + SHEET_PX, left : left + SHEET_PX] for c in columns]))
    return np.vstack(rows)


def _vae_row(net: ConditionalVae, pair: Pair) -> list[Picture]:
    generator = torch.Generator().manual_seed(0)
    shape = (1, net.latent, *pair.lr.shape[:2])
    mean, sure = predict(net, pair.lr)
    samples = [predict(net, pair.lr, torch.randn(shape, generator=generator))[0] for _ in range(3)]
    nearest = pair.lr.repeat(net.scale, axis=0).repeat(net.scale, axis=1)
    drawn = [mean, *samples, np.repeat(sure[..., None], 3, axis=2)]
    return [nearest, *((255 * p).round().astype(np.uint8) for p in drawn), pair.hr]


def load(weights: Path) -> nn.Module:
    """Load the network of a checkpoint, in eval mode."""
    tensors, facts = load_weights(weights)
    net = networks.for_recipe(recipe_from_dict(facts["recipe"], source=str(weights)))
    networks.warm_start(net, tensors)
    return net.eval()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 after a one-line error."""
    parser = Parser(prog="python -m training.assess", description=__doc__)
    parser.add_argument("weights", type=Path, help="weights of family ae (x1) or vae")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        action="append",
        metavar="DIR",
        help="folder of ground truth; may be repeated",
    )
    parser.add_argument(
        "--parent", type=Path, metavar="WEIGHTS", help="plain net to compare a vae with"
    )
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write a sheet of crops")
    arguments = parser.parse_args(argv)
    return exit_code(parser.prog, lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    net = load(arguments.weights)
    shown: list[Pair] = []
    for folder in arguments.data:
        if isinstance(net, ConditionalVae):
            pairs = load_pairs(folder, net.scale)
            lines = assess_vae(net, pairs, load(arguments.parent) if arguments.parent else None)
        elif getattr(net, "skips", False) and net.scale == 1:
            pairs = load_pairs(folder, 1)
            lines = assess_ae(net, pairs)
        else:
            raise ValueError(f"{arguments.weights}: neither a restorer at x1 nor a conditional vae")
        sys.stdout.write("\n".join([folder.name, *(f"  {line}" for line in lines)]) + "\n")
        shown += [pair for pair in pairs if min(pair.hr.shape[:2]) >= SHEET_PX][:4]
    if arguments.sheet:
        Image.fromarray(sheet(net, shown)).save(arguments.sheet)


if __name__ == "__main__":
    sys.exit(main())
