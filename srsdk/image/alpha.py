"""Upscale pictures with transparency without color fringes."""

from __future__ import annotations

import numpy as np

from srsdk.image.arrays import Array

FILL_REACH_PX = 24
"""How far colors spread into transparent parts: past the shipped networks' receptive fields."""

_NEIGHBORS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def constant(alpha: Array) -> bool:
    """Return whether alpha has a single value, so that nothing needs to be computed."""
    return bool((alpha == alpha.flat[0]).all())


def filled(color: Array, alpha: Array) -> Array:
    """Give transparent pixels the colors of the visible pixels around them.

    Fully transparent pixels hold arbitrary colors, mostly black or white. A network, like any
    filter, would bleed them into the visible edge as a fringe. Here each gets the mean of its
    neighbors, weighted by their alpha (premultiplied), ring by ring, up to `FILL_REACH_PX` away.
    Visible pixels keep their colors. No division by an enlarged alpha is needed afterwards.

    Args:
        color: (H, W, C) of any dtype.
        alpha: (H, W), 0 where transparent.

    Returns:
        (H, W, C), a copy if anything changed.
    """
    known = alpha > 0
    if known.all() or not known.any():
        return color
    height, width = alpha.shape
    result = color.copy()
    weight = alpha.astype(np.float32)
    for _ in range(FILL_REACH_PX):
        rows, columns = np.nonzero(_dilated(known) & ~known)
        if not rows.size:
            break
        total, count = np.zeros(rows.size, np.float32), np.zeros(rows.size, np.float32)
        sums = np.zeros((rows.size, color.shape[2]), np.float32)
        for dy, dx in _NEIGHBORS:
            y, x = rows + dy, columns + dx
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            y, x = y.clip(0, height - 1), x.clip(0, width - 1)
            there = inside & known[y, x]
            share = weight[y, x] * there
            total += share
            count += there
            sums += share[:, None] * result[y, x]
        mean = sums / total[:, None]
        result[rows, columns] = mean if color.dtype == np.float32 else np.rint(mean)
        weight[rows, columns] = total / count
        known[rows, columns] = True
    return result


def without_ringing(large: Array, alpha: Array) -> Array:
    """Clamp each pixel of an enlarged alpha to the range of the four source pixels around it.

    A network adds ringing beside hard edges and occasionally returns 254 for 255; in alpha the
    first is a visible line and the second is no longer opaque. Where the source is flat, the
    clamped result equals it exactly.

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


def _dilated(mask: Array) -> Array:
    """Return the mask dilated by one pixel in all eight directions."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    wide = grown.copy()
    wide[:, 1:] |= grown[:, :-1]
    wide[:, :-1] |= grown[:, 1:]
    return wide
