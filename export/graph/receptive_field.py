"""Measure the receptive field of a network whose structure does not determine it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from export.errors import ExportError
from export.protocol import Batch, Run

RADII_PX = (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
BLOCK_PX = 9
BEYOND_PX = 16
"""Margin of a tile beyond the tested radius; half of it for the largest radius."""
TOLERANCE_LSB = 1


def measured_radius(run: Run, scale: int, channels: int, multiple_px: int = 1) -> int:
    """Return the distance beyond which other pixels change a pixel by at most 1 LSB.

    A block of pixels is compared between a large picture and tiles that extend a little beyond that
    distance. All pixels of the tile beyond it are replaced at once, by black and by other noise,
    which is a larger change than neighbors of a real picture make.

    Raises:
        ExportError: even the most distant pixels matter, so the network cannot be tiled.
    """
    side = 2 * RADII_PX[-1] + BEYOND_PX + BLOCK_PX
    side += -side % multiple_px
    picture = _noise(side, channels, 0)
    first = (side - BLOCK_PX) // 2
    wanted = _block(run(picture), first, scale)

    def influence_lsb(radius: int) -> int:
        margin = radius + BEYOND_PX
        # some networks depend on the position within a multiple, so the tile keeps it
        start = max(0, first - margin) // multiple_px * multiple_px
        stop = min(side, start - -(first + BLOCK_PX + margin - start) // multiple_px * multiple_px)
        tile = picture[:, start:stop, start:stop]
        inner = np.s_[first - radius - start : first + BLOCK_PX + radius - start]
        worst = 0
        for other in (np.zeros_like(tile), _noise(stop - start, channels, 1)):
            other[:, inner, inner] = tile[:, inner, inner]
            worst = max(worst, int(np.abs(_block(run(other), first - start, scale) - wanted).max()))
        return worst

    # binary search: a large network takes seconds per run
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
            f"by over {TOLERANCE_LSB} level, so no tile overlap reproduces the whole picture"
        )
    return RADII_PX[low]


def _block(batch: Batch, first: int, scale: int) -> npt.NDArray[np.int16]:
    """Return the output pixels of the compared block."""
    watched = np.s_[first * scale : (first + BLOCK_PX) * scale]
    return batch[:, watched, watched].astype(np.int16)


def _noise(side: int, channels: int, seed: int) -> Batch:
    """Return coarse blocks with fine noise: every frequency."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (1, -(-side // 8), -(-side // 8), channels))
    blocks = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side]
    return np.clip(blocks + random.normal(0, 30, blocks.shape), 0, 255).astype(np.uint8)
