"""Noise into a network that samples, and its confidence out, tile by tile."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from srsdk.engines import SamplingSlot, Slot
from srsdk.tiles import Tile

BLOCK_PX = 64

Floats = npt.NDArray[np.float32]


class Sample:
    """One run through the tiles of one picture; lives as long as that run.

    The noise belongs to a place in the picture and not to a tile, so that tiles agree where they
    overlap, and the same seed gives the same picture whatever the tile is.
    """

    def __init__(
        self, seed: int, index: int, temperature: float, scale: int, confidence: Floats | None
    ) -> None:
        """Take the place of the run.

        Args:
            seed: of all samples.
            index: of this sample.
            temperature: factor on the noise; 0: the mean.
            scale: of the model.
            confidence: (H * scale, W * scale, 1), filled tile by tile; None: not wanted.
        """
        self._seed = seed
        self._index = index
        self._temperature = temperature
        self._scale = scale
        self._confidence = confidence

    def draw(self, slot: Slot, tile: Tile, at: int = 0) -> None:
        """Write the noise of a tile, one of the slot's batch."""
        noise = cast(SamplingSlot, slot).noise[at]
        if not self._temperature:
            noise[...] = 0
            return
        latent, height, width = noise.shape
        top, left = tile.rows.start, tile.columns.start
        field = noise_at(self._seed, self._index, (top, left), (height, width), latent)
        np.multiply(field, np.float32(self._temperature), out=noise)

    def collect(self, slot: Slot, tile: Tile, at: int = 0) -> None:
        """Keep the confidence of a tile."""
        if self._confidence is not None:
            confidence = cast(SamplingSlot, slot).confidence[at]
            tile.lay(confidence, self._confidence, self._scale)


def noise_at(
    seed: int, index: int, corner: tuple[int, int], size: tuple[int, int], latent: int
) -> Floats:
    """Return standard normal noise of a window, (latent, height, width) float32.

    It is drawn in blocks, each of its own Philox stream (Salmon et al. 2011), by Box and Muller's
    formula: both stay what they are between versions of numpy.

    Args:
        seed: 0 or more.
        index: of the sample.
        corner: (top, left) of the window in the picture.
        size: (height, width) of the window.
        latent: channels.
    """
    (top, left), (height, width) = corner, size
    result = np.empty((latent, height, width), np.float32)
    for y in range(top // BLOCK_PX * BLOCK_PX, top + height, BLOCK_PX):
        for x in range(left // BLOCK_PX * BLOCK_PX, left + width, BLOCK_PX):
            block = _block(seed, index, y // BLOCK_PX, x // BLOCK_PX, latent)
            rows = slice(max(y, top), min(y + BLOCK_PX, top + height))
            columns = slice(max(x, left), min(x + BLOCK_PX, left + width))
            result[
                :, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
            ] = block[:, rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
    return result


def _block(seed: int, index: int, row: int, column: int, latent: int) -> Floats:
    """Return (latent, BLOCK_PX, BLOCK_PX)."""
    stream = np.random.Philox(key=[seed, index], counter=[0, 0, row, column])
    half = latent * BLOCK_PX * BLOCK_PX // 2
    raw = stream.random_raw(2 * half).astype(np.uint64)
    # 53 bits, never 0, of which there is no logarithm
    uniform = ((raw >> np.uint64(11)) + 0.5) * 2.0**-53
    radius = np.sqrt(-2 * np.log(uniform[:half]))
    angle = 2 * np.pi * uniform[half:]
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return both.astype(np.float32).reshape(latent, BLOCK_PX, BLOCK_PX)
