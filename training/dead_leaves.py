"""Dead-leaves pictures: opaque discs that hide one another, generated, free of anybody's rights.

Their statistics (scale invariance, occlusion edges) are those that natural pictures share; networks
trained on nothing else come within a few tenths of a dB (Achddou et al. 2021, "Synthetic images as
a regularity prior"; Lee et al. 2001, "Occlusion models for natural images").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.data import Pair, make_pair
from training.resize import Picture, imresize

OVERSAMPLING = 2
"""Drawn this much larger and reduced: the edges are antialiased as a camera's are."""
SMALLEST_PX = 1.5
"""Radius of the smallest leaf, in pixels of the finished picture."""


def pairs(count: int, side_px: int, scale: int, seed: int) -> list[Pair]:
    """Return `count` generated pictures of side `side_px` with their reduced twins."""
    seeds = np.random.SeedSequence(seed).spawn(count)
    return [
        make_pair(picture(side_px, np.random.default_rng(each)), scale, f"dead_leaves/{number}")
        for number, each in enumerate(seeds)
    ]


def picture(side_px: int, random: np.random.Generator) -> Picture:
    """Draw one picture, (side_px, side_px, 3) uint8.

    Radii follow a power law of exponent -3, which makes the model scale-invariant; each leaf has
    one colour, drawn near one of a few that the picture has, and a slight slope of brightness.
    """
    side = side_px * OVERSAMPLING
    canvas = np.empty((side, side, 3), np.float32)
    palette = random.uniform(0, 255, (6, 3))
    canvas[:] = palette[0]
    low, high = SMALLEST_PX * OVERSAMPLING, side / 3
    # inverse of the cumulative distribution of r**-3 between low and high
    uniform = random.uniform(size=4 * side_px)
    radii = 1 / np.sqrt(uniform / high**2 + (1 - uniform) / low**2)
    # the power law makes nearly all leaves small; a few large ones first keep the ground covered
    radii = np.concatenate([random.uniform(high / 3, high, 24), radii])
    for radius in radii:
        centre = random.uniform(0, side, 2)
        colour = palette[random.integers(len(palette))] + random.normal(0, 25, 3)
        _leaf(canvas, centre, float(radius), colour, random.normal(0, 20, 2))
    return imresize(np.clip(canvas, 0, 255).astype(np.uint8), 1 / OVERSAMPLING)


def _leaf(
    canvas: npt.NDArray[np.float32],
    centre: npt.NDArray[np.float64],
    radius: float,
    colour: npt.NDArray[np.float64],
    slope: npt.NDArray[np.float64],
) -> None:
    top, left = np.maximum(np.floor(centre - radius), 0).astype(int)
    bottom, right = np.minimum(np.ceil(centre + radius) + 1, canvas.shape[:2]).astype(int)
    y = (np.arange(top, bottom)[:, None] - centre[0]) / radius
    x = (np.arange(left, right)[None, :] - centre[1]) / radius
    inside = x * x + y * y <= 1
    shade = colour + (slope[0] * y + slope[1] * x)[..., None]
    canvas[top:bottom, left:right][inside] = shade[inside]
