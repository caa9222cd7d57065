"""Measure the textbook models: `python -m training.assess_small WEIGHTS --data DIR`.

Uses patches of the network's size from the folder. Flat autoencoder: reconstruction, bits per pixel
against PSNR, completion. Flat VAE: reconstruction. All three models can write a picture sheet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training import networks
from training.checkpoint import load_weights
from training.data.pictures import Patches, load_pairs
from training.data.resize import Picture
from training.evaluation.compression import rate_distortion
from training.networks.small import Decoder, FlatAutoencoder, FlatVae, Small, interpolate
from training.objectives.small import hide
from training.recipe.schema import Recipe, recipe_from_dict
from training.usage import Parser, exit_code

COUNT = 1000
"""Number of patches to measure."""
FITTED = 4000
"""Number of patches to fit the quantizer on."""
HIDDEN = 0.5
"""Largest side of the masked rectangle, relative to the picture's."""
BITS = (2, 3, 4, 6, 8)
COLUMNS = 12
ENLARGED = 3


def draw(folder: Path, count: int, size_px: int) -> Tensor:
    """Return (count, 3, size_px, size_px) patches of a folder, 0..1; the same every time."""
    pairs = load_pairs(folder, 1, min_px=size_px)
    return Patches(pairs, size_px, count, seed=0).draw().hr


def psnr(result: Tensor, truth: Tensor) -> float:
    """Return the PSNR over all samples of all pictures in dB, peak 1."""
    return -10 * float(torch.log10((result - truth).square().mean()))


@torch.no_grad()
def assess(net: Small, pictures: Tensor, fitted_on: Tensor | None) -> list[str]:
    """Return the report lines.

    Args:
        net: a flat autoencoder or VAE; a generator has no ground truth to compare with.
        pictures: (N, 3, S, S), 0..1.
        fitted_on: pictures to fit the autoencoder's quantizer on, never the test pictures.
    """
    if isinstance(net, Decoder):
        return ["a generator has no ground truth to score: see --sheet"]
    flat = pictures.mean(dim=(2, 3), keepdim=True).expand_as(pictures)
    lines = [f"mean color alone: {psnr(flat, pictures):.2f} dB"]
    lines.append(f"reconstruction: {psnr(net(pictures), pictures):.2f} dB")
    if isinstance(net, FlatAutoencoder):
        torch.manual_seed(0)
        hidden = hide(pictures, HIDDEN)
        where = (hidden != pictures).any(dim=1, keepdim=True).expand_as(pictures)
        inside = psnr(net(hidden)[where], pictures[where])
        lines.append(
            f"completion, inside the masked area: {inside:.2f} dB "
            f"(left gray: {psnr(hidden[where], pictures[where]):.2f})"
        )
        if fitted_on is not None:
            lines += [
                f"{rate.bits} bits per number: {rate.bits_per_px:.3f} bits per pixel "
                f"({rate.entropy_per_px:.3f} by entropy), {rate.psnr_db:.2f} dB"
                for rate in rate_distortion(net, fitted_on, pictures, BITS)
            ]
    return lines


@torch.no_grad()
def sheet(net: Small, pictures: Tensor, latent: int) -> Picture:
    """Lay out rows of pictures.

    Autoencoder: truth, reconstruction, masked, completed. VAE: truth, reconstruction, samples of
    the prior, interpolation between the first two codes. Generator: three rows of samples,
    interpolation.
    """
    torch.manual_seed(0)
    first = pictures[:COLUMNS]
    if isinstance(net, FlatAutoencoder):
        hidden = hide(first, HIDDEN)
        rows = [first, net(first), hidden, net(hidden)]
    elif isinstance(net, FlatVae):
        codes = net.moments(first)[0]
        line = interpolate(net.decoder, codes[0], codes[1], COLUMNS)
        rows = [first, net(first), net.decoder(torch.randn(COLUMNS, latent)), line]
    else:
        z = torch.randn(3, COLUMNS, latent)
        rows = [*(net(noise) for noise in z), interpolate(net, z[0, 0], z[0, 1], COLUMNS)]
    pixels = (255 * torch.stack(rows).clamp(0, 1)).round().byte().numpy()
    page: Picture = np.concatenate(
        [np.concatenate(list(row.transpose(0, 2, 3, 1)), axis=1) for row in pixels], axis=0
    )
    return page.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)


def load(weights: Path) -> tuple[Small, Recipe]:
    """Load the network and the recipe of a checkpoint.

    Raises:
        ValueError: it is not a textbook model.
    """
    tensors, facts = load_weights(weights)
    recipe = recipe_from_dict(facts["recipe"], source=str(weights))
    net = networks.for_recipe(recipe)
    if not isinstance(net, (FlatAutoencoder, FlatVae, Decoder)):
        raise ValueError(f"{weights}: {recipe.name} is not a textbook model: use training.assess")
    networks.warm_start(net, tensors)
    return net.eval(), recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 1 after a one-line error."""
    parser = Parser(prog="python -m training.assess_small", description=__doc__)
    parser.add_argument("weights", type=Path, help="weights of a recipe with small.on = true")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of test pictures"
    )
    parser.add_argument(
        "--fit",
        type=Path,
        metavar="DIR",
        help="folder of other pictures, to fit the autoencoder's quantizer on",
    )
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write a sheet of pictures")
    arguments = parser.parse_args(argv)
    return exit_code(parser.prog, lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    net, recipe = load(arguments.weights)
    size_px = recipe.data.patch_px
    pictures = draw(arguments.data, COUNT, size_px)
    fitted_on = draw(arguments.fit, FITTED, size_px) if arguments.fit else None
    sys.stdout.write("\n".join(assess(net, pictures, fitted_on)) + "\n")
    if arguments.sheet:
        Image.fromarray(sheet(net, pictures, recipe.small.latent)).save(arguments.sheet)


if __name__ == "__main__":
    sys.exit(main())
