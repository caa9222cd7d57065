"""Dead-leaves pictures: generated opaque discs that occlude one another, free of rights.

They share statistics of natural pictures (scale invariance, occlusion edges); networks trained on
nothing else come within a few tenths of a dB (Achddou et al. 2021, "Synthetic images as
a regularity prior"; Lee et al. 2001, "Occlusion models for natural images").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.data.pictures import Pair, make_pair
from training.data.resize import Picture, imresize

OVERSAMPLING = 2
"""Pictures are drawn this much larger and reduced, which antialiases edges as a camera does."""
SMALLEST_PX = 1.5
"""Radius of the smallest leaf, in pixels of the finished picture."""


def pairs(count: int, side_px: int, scale: int, seed: int) -> list[Pair]:
    """Return `count` generated pictures of side `side_px` with their reductions."""
    seeds = np.random.SeedSequence(seed).spawn(count)
    return [
        make_pair(picture(side_px, np.random.default_rng(each)), scale, f"dead_leaves/{number}")
        for number, each in enumerate(seeds)
    ]


def picture(side_px: int, random: np.random.Generator) -> Picture:
    """Draw one picture, (side_px, side_px, 3) uint8.

    Radii follow a power law of exponent -3, which makes the model scale-invariant; each leaf has
    one color, near one of the picture's palette, and a slight brightness gradient.
    """
    side = side_px * OVERSAMPLING
    canvas = np.empty((side, side, 3), np.float32)
    palette = random.uniform(0, 255, (6, 3))
    canvas[:] = palette[0]
    low, high = SMALLEST_PX * OVERSAMPLING, side / 3
    # inverse of the cumulative distribution of r**-3 between low and high
    uniform = random.uniform(size=4 * side_px)
    radii = 1 / np.sqrt(uniform / high**2 + (1 - uniform) / low**2)
    # the power law makes nearly all leaves small; a few large ones first cover the background
    radii = np.concatenate([random.uniform(high / 3, high, 24), radii])
    for radius in radii:
        center = random.uniform(0, side, 2)
        color = palette[random.integers(len(palette))] + random.normal(0, 25, 3)
        _leaf(canvas, center, float(radius), color, random.normal(0, 20, 2))
    return imresize(np.clip(canvas, 0, 255).astype(np.uint8), 1 / OVERSAMPLING)


def _leaf(
    canvas: npt.NDArray[np.float32],
    center: npt.NDArray[np.float64],
    radius: float,
    color: npt.NDArray[np.float64],
    slope: npt.NDArray[np.float64],
) -> None:
    top, left = np.maximum(np.floor(center - radius), 0).astype(int)
    bottom, right = np.minimum(np.ceil(center + radius) + 1, canvas.shape[:2]).astype(int)
    y = (np.arange(top, bottom)[:, None] - center[0]) / radius
    x = (np.arange(left, right)[None, :] - center[1]) / radius
    inside = x * x + y * y <= 1
    shade = color + (slope[0] * y + slope[1] * x)[..., None]
    canvas[top:bottom, left:right][inside] = shade[inside]
