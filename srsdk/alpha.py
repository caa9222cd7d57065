"""Pictures with transparent parts: enlarged without fringes."""

from __future__ import annotations

import numpy as np

from srsdk.tiles import Array

FILL_REACH_PX = 24
"""How far colours are carried into transparent parts: past the view of the shipped networks."""

_NEIGHBOURS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def constant(alpha: Array) -> bool:
    """Say whether alpha has one value, so that nothing is to be computed."""
    return bool((alpha == alpha.flat[0]).all())


def filled(colour: Array, alpha: Array) -> Array:
    """Give transparent pixels the colours of the visible ones around them.

    Fully transparent pixels hold any colour, mostly black or white, and a network, like any
    filter, would draw it into the visible edge: the fringe. Here each gets the mean of its
    neighbours, weighted by their alpha (premultiplied), ring by ring, up to `FILL_REACH_PX` away.
    Visible pixels keep theirs. No division by an enlarged alpha is needed afterwards.

    Args:
        colour: (H, W, C) of any dtype.
        alpha: (H, W), 0 where transparent.

    Returns:
        (H, W, C), a copy where something changed.
    """
    known = alpha > 0
    if known.all() or not known.any():
        return colour
    height, width = alpha.shape
    result = colour.copy()
    weight = alpha.astype(np.float32)
    for _ in range(FILL_REACH_PX):
        rows, columns = np.nonzero(_grown(known) & ~known)
        if not rows.size:
            break
        total, count = np.zeros(rows.size, np.float32), np.zeros(rows.size, np.float32)
        sums = np.zeros((rows.size, colour.shape[2]), np.float32)
        for dy, dx in _NEIGHBOURS:
            y, x = rows + dy, columns + dx
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            y, x = y.clip(0, height - 1), x.clip(0, width - 1)
            there = inside & known[y, x]
            share = weight[y, x] * there
            total += share
            count += there
            sums += share[:, None] * result[y, x]
        mean = sums / total[:, None]
        result[rows, columns] = mean if colour.dtype == np.float32 else np.rint(mean)
        weight[rows, columns] = total / count
        known[rows, columns] = True
    return result


def without_ringing(large: Array, alpha: Array) -> Array:
    """Keep an enlarged alpha between the four source pixels around each of its own.

    A network draws an echo beside hard edges, and gives 254 for 255 here and there; in alpha the
    one is a visible line and the other no longer opaque. Where the source is flat, this makes the
    result exactly the source's.

    Args:
        large: (H * scale, W * scale).
        alpha: (H, W).
    """
    scale = large.shape[0] // alpha.shape[0]
    padded = np.pad(alpha, 1, mode="edge")
    corners = [padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]]
    low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    rows, columns = (
        ((np.arange(side) + 0.5) / scale + 0.5).astype(np.intp) for side in large.shape
    )
    result = large.copy()
    for row, window in enumerate(rows):
        np.clip(large[row], low[window, columns], high[window, columns], out=result[row])
    return result


def _grown(mask: Array) -> Array:
    """Return the mask and its eight neighbours."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    wide = grown.copy()
    wide[:, 1:] |= grown[:, :-1]
    wide[:, :-1] |= grown[:, 1:]
    return wide
