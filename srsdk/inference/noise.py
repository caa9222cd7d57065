"""Feed noise to a sampling network and collect its confidence, tile by tile."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from srsdk.engines.protocol import SamplingSlot, Slot
from srsdk.inference.tiling import Tile

BLOCK_PX = 64

Floats = npt.NDArray[np.float32]


class Sample:
    """State of one sampling run over the tiles of a picture.

    The noise depends on the position in the picture, not on the tile, so that tiles agree where
    they overlap, and the same seed gives the same result for any tile size.
    """

    def __init__(
        self, seed: int, index: int, temperature: float, scale: int, confidence: Floats | None
    ) -> None:
        """Store the settings of the run.

        Args:
            seed: seed of all samples.
            index: index of this sample.
            temperature: factor on the noise; 0: the mean.
            scale: scale of the model.
            confidence: (H * scale, W * scale, 1), filled tile by tile; None: not needed.
        """
        self._seed = seed
        self._index = index
        self._temperature = temperature
        self._scale = scale
        self._confidence = confidence

    def draw(self, slot: Slot, tile: Tile, at: int = 0) -> None:
        """Write the noise of a tile to position `at` of the slot's batch."""
        noise = cast(SamplingSlot, slot).noise[at]
        if not self._temperature:
            noise[...] = 0
            return
        latent, height, width = noise.shape
        top, left = tile.rows.start, tile.columns.start
        field = noise_at(self._seed, self._index, (top, left), (height, width), latent)
        np.multiply(field, np.float32(self._temperature), out=noise)

    def collect(self, slot: Slot, tile: Tile, at: int = 0) -> None:
        """Copy the confidence of a tile from position `at` of the slot's batch."""
        if self._confidence is not None:
            confidence = cast(SamplingSlot, slot).confidence[at]
            tile.paste(confidence, self._confidence, self._scale)


def noise_at(
    seed: int, index: int, corner: tuple[int, int], size: tuple[int, int], latent: int
) -> Floats:
    """Return standard normal noise for a window, (latent, height, width) float32.

    It is drawn in blocks, each from its own Philox stream (Salmon et al. 2011), with the Box-Muller
    transform: neither changes between versions of numpy.

    Args:
        seed: 0 or more.
        index: index of the sample.
        corner: (top, left) of the window in the picture.
        size: (height, width) of the window.
        latent: number of channels.
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
    """Return the noise of one block, (latent, BLOCK_PX, BLOCK_PX)."""
    stream = np.random.Philox(key=[seed, index], counter=[0, 0, row, column])
    half = latent * BLOCK_PX * BLOCK_PX // 2
    raw = stream.random_raw(2 * half).astype(np.uint64)
    # 53 bits, never 0, whose logarithm does not exist
    uniform = ((raw >> np.uint64(11)) + 0.5) * 2.0**-53
    radius = np.sqrt(-2 * np.log(uniform[:half]))
    angle = 2 * np.pi * uniform[half:]
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    return both.astype(np.float32).reshape(latent, BLOCK_PX, BLOCK_PX)
