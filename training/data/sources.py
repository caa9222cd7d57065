"""Sources that make each patch when it is drawn: degraded ones, and unpaired ones."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from training.data import degradation
from training.data.pictures import WHOLE, Batch, Shard, area_chance, dihedral, make_batch
from training.data.resize import Picture, imresize
from training.recipe.schema import Recipe

MARGIN_PX = 4
"""Low-resolution pixels made around a patch and cut off, so that no filter sees a border."""


class Degrading:
    """Random patches, each degraded when it is drawn.

    The random generator draws one seed per patch, which determines everything else, so that threads
    and processes share the work without changing the result.
    """

    def __init__(self, pictures: Sequence[Picture], recipe: Recipe, shard: Shard = WHOLE) -> None:
        self._pictures = pictures
        self._chance = area_chance(pictures, recipe.data.area_power)
        self._recipe = recipe
        self._mine = shard(recipe.data.batch)
        self._random = np.random.default_rng(recipe.seed)
        self._pool = ThreadPoolExecutor(max_workers=4)

    def draw(self) -> Batch:
        """Return the next batch."""
        count = self._recipe.data.batch
        picks = self._random.choice(len(self._pictures), count, p=self._chance).tolist()
        seeds = self._random.integers(2**63, size=count).tolist()
        made = list(self._pool.map(lambda i: self._make(picks[i], seeds[i]), self._mine))
        return make_batch([lr for lr, _ in made], [hr for _, hr in made])

    def _make(self, pick: int, seed: int) -> tuple[Picture, Picture]:
        random = np.random.default_rng(seed)
        scale, size = self._recipe.scale, self._recipe.data.patch_px
        picture = self._pictures[pick]
        margin = min(MARGIN_PX, (min(picture.shape[:2]) // scale - size) // 2)
        hr = _rescaled_crop(
            picture, (size + 2 * margin) * scale, self._recipe.data.rescale_from, random
        )
        directed = self._recipe.degradation.kind == "gaussian"
        if directed:
            # a kernel has a direction: the patch is turned before it is reduced, not after
            hr = dihedral(hr, int(random.integers(8)))
        lr = degradation.reduce(hr, scale, self._recipe.degradation, random)
        flip = 0 if directed else int(random.integers(8))
        inner, outer = slice(margin, margin + size), slice(margin * scale, (margin + size) * scale)
        return dihedral(lr[inner, inner], flip), dihedral(hr[outer, outer], flip)

    def state(self) -> dict[str, Any]:
        """Return the generator's state, plain and JSON-serializable."""
        return dict(self._random.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._random.bit_generator.state = state


class UnpairedPatches:
    """Unpaired patches: low-resolution ones of one set, high-resolution ones of another."""

    def __init__(
        self, real: Sequence[Picture], hr: Sequence[Picture], recipe: Recipe, shard: Shard = WHOLE
    ) -> None:
        power = recipe.data.area_power
        self._sets = (
            (real, area_chance(real, power), recipe.data.patch_px),
            (hr, area_chance(hr, power), recipe.data.patch_px * recipe.scale),
        )
        self._rescale_from = recipe.data.rescale_from
        self._batch = recipe.data.batch
        self._mine = shard(recipe.data.batch)
        self._random = np.random.default_rng(recipe.seed)

    def draw(self) -> Batch:
        """Return the next batch; `lr` and `hr` show different pictures."""
        drawn: list[list[Picture]] = []
        for pictures, chance, size in self._sets:
            picks = self._random.choice(len(pictures), self._batch, p=chance).tolist()
            seeds = self._random.integers(2**63, size=self._batch).tolist()
            # real low-resolution pictures are not rescaled: their noise is to be learned
            low = 1.0 if pictures is self._sets[0][0] else self._rescale_from
            drawn.append([_patch(pictures[picks[i]], size, low, seeds[i]) for i in self._mine])
        return make_batch(*drawn)

    def state(self) -> dict[str, Any]:
        """Return the generator's state, plain and JSON-serializable."""
        return dict(self._random.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._random.bit_generator.state = state


def _patch(picture: Picture, size: int, rescale_from: float, seed: int) -> Picture:
    random = np.random.default_rng(seed)
    patch = _rescaled_crop(picture, size, rescale_from, random)
    return dihedral(patch, int(random.integers(8)))


def _rescaled_crop(
    picture: Picture, size: int, rescale_from: float, random: np.random.Generator
) -> Picture:
    """Cut a random square and reduce it to (size, size, 3) by a factor of `rescale_from` to 1.

    A picture that is too small for the drawn factor is reduced less.
    """
    factor = random.uniform(rescale_from, 1)
    side = min(round(size / factor), *picture.shape[:2])
    top = int(random.integers(picture.shape[0] - side + 1))
    left = int(random.integers(picture.shape[1] - side + 1))
    patch = picture[top : top + side, left : left + side]
    return patch if side == size else imresize(patch, size / side)
