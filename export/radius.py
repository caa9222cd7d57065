"""How far a network sees, where its structure does not tell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.onnx_file import ExportError
from export.parity import Batch, Run

RADII_PX = (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
BLOCK_PX = 9
BEYOND_PX = 16
"""So much of a tile lies outside of the radius that is tried; half of it for the largest."""
TOLERANCE_LSB = 1


def measured_radius(run: Run, scale: int, channels: int, multiple_px: int = 1) -> int:
    """Return the distance from which on other pixels change a pixel by no more than 1 LSB.

    A block of pixels is watched, not one, first in a large picture and then in tiles that end a
    little beyond that distance. All of a tile's pixels beyond it are exchanged at once, for black
    and for other noise, which is worse than what a neighbour does in a picture.

    Raises:
        ExportError: even the furthest pixels count; the network cannot be tiled.
    """
    side = 2 * RADII_PX[-1] + BEYOND_PX + BLOCK_PX
    side += -side % multiple_px
    picture = _noise(side, channels, 0)
    first = (side - BLOCK_PX) // 2
    wanted = _block(run(picture), first, scale)

    def influence_lsb(radius: int) -> int:
        margin = radius + BEYOND_PX
        # where the block lies in a multiple matters to some networks, so the tile keeps that
        start = max(0, first - margin) // multiple_px * multiple_px
        stop = min(side, start - -(first + BLOCK_PX + margin - start) // multiple_px * multiple_px)
        tile = picture[:, start:stop, start:stop]
        inner = np.s_[first - radius - start : first + BLOCK_PX + radius - start]
        worst = 0
        for other in (np.zeros_like(tile), _noise(stop - start, channels, 1)):
            other[:, inner, inner] = tile[:, inner, inner]
            worst = max(worst, int(np.abs(_block(run(other), first - start, scale) - wanted).max()))
        return worst

    # by halves: a large network takes seconds for each look
    low, high = 0, len(RADII_PX)
    while low < high:
        middle = (low + high) // 2
        if influence_lsb(RADII_PX[middle]) <= TOLERANCE_LSB:
            high = middle
        else:
            low = middle + 1
    if low == len(RADII_PX):
        raise ExportError(
            f"the network has global context: pixels {RADII_PX[-1]} px away still change a pixel "
            f"by over {TOLERANCE_LSB} level, so no overlap makes tiles equal to the whole"
        )
    return RADII_PX[low]


def _block(batch: Batch, first: int, scale: int) -> npt.NDArray[np.int16]:
    """Return what the network made of the watched pixels."""
    watched = np.s_[first * scale : (first + BLOCK_PX) * scale]
    return batch[:, watched, watched].astype(np.int16)


def _noise(side: int, channels: int, seed: int) -> Batch:
    """Coarse blocks below fine noise: every frequency."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (1, -(-side // 8), -(-side // 8), channels))
    blocks = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side]
    return np.clip(blocks + random.normal(0, 30, blocks.shape), 0, 255).astype(np.uint8)
