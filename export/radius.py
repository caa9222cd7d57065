"""How far a network sees, where its structure does not tell."""

from __future__ import annotations

import numpy as np

from export.onnx_file import ExportError
from export.parity import Batch, Run

RADII_PX = (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
BLOCK_PX = 9
TOLERANCE_LSB = 1


def measured_radius(run: Run, scale: int, channels: int, multiple_px: int = 1) -> int:
    """Return the distance from which on other pixels change a pixel by no more than 1 LSB.

    All pixels beyond it are exchanged at once, for black and for other noise, which is worse than
    what the neighbour of a tile does in a picture. A block of pixels is watched, not one.

    Raises:
        ExportError: even the furthest pixels count; the network cannot be tiled.
    """
    side = -(-(2 * (RADII_PX[-1] + 8) + BLOCK_PX) // multiple_px) * multiple_px
    picture = _noise(side, channels, 0)
    others = (np.zeros_like(picture), _noise(side, channels, 1))
    first = (side - BLOCK_PX) // 2
    last = first + BLOCK_PX
    block = np.s_[:, first * scale : last * scale, first * scale : last * scale]
    wanted = run(picture)[block].astype(np.int16)

    def influence_lsb(radius: int) -> int:
        kept = np.s_[:, first - radius : last + radius, first - radius : last + radius]
        worst = 0
        for other in others:
            changed = other.copy()
            changed[kept] = picture[kept]
            worst = max(worst, int(np.abs(run(changed)[block] - wanted).max()))
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


def _noise(side: int, channels: int, seed: int) -> Batch:
    """Coarse blocks below fine noise: every frequency."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (1, -(-side // 8), -(-side // 8), channels))
    blocks = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side]
    return np.clip(blocks + random.normal(0, 30, blocks.shape), 0, 255).astype(np.uint8)
