"""Input damage that `ae` learns to remove: Gaussian noise, JPEG and lost texture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.data.pictures import WHOLE, Batch, Pair, Shard, Source
from training.data.resize import Picture, imresize
from training.recipe.families import BLOCK_PX, CorruptRecipe
from training.recipe.schema import Recipe

TEST_SIGMA = 25.0
TEST_QUALITY = 10
UNKNOWN = -1.0
"""A level that is not told, or of damage that was not done."""


def add_noise(picture: Picture, sigma: float, random: np.random.Generator) -> Picture:
    """Add Gaussian noise, independent in each sample; rounded and clipped to uint8.

    Args:
        picture: (H, W, 3) uint8.
        sigma: standard deviation, levels of 255.
        random: source of the noise.
    """
    noisy = picture + random.normal(0.0, sigma, picture.shape)
    rounded: Picture = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
    return rounded


def jpeg(picture: Picture, quality: int, *, subsampling: int = 2) -> Picture:
    """Compress and decompress (H, W, 3) uint8 with libjpeg.

    Args:
        picture: the picture.
        quality: 1..100.
        subsampling: Pillow's: 0 is 4:4:4, 2 is 4:2:0, its default.
    """
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def soften(picture: Picture, factor: int) -> Picture:
    """Reduce by `factor` and enlarge again, bicubically; (H, W, 3) uint8 of the same size."""
    height, width = picture.shape[:2]
    return imresize(imresize(picture, 1 / factor), factor)[:height, :width]


class Corrupting:
    """Damages the low-resolution patches of a source; has its own random state.

    The generator draws one seed per patch of the whole batch; each process uses those of its share.
    """

    def __init__(
        self, source: Source, recipe: CorruptRecipe, seed: int, shard: Shard = WHOLE
    ) -> None:
        self._source = source
        self._recipe = recipe
        self._shard = shard
        self._random = np.random.default_rng((seed, 1))

    def draw(self) -> Batch:
        """Return the next batch: `lr` damaged, `hr` as it was, both trimmed to the block offset."""
        batch = self._source.draw()
        count = len(batch.lr) * self._shard.world
        seeds = self._random.integers(2**63, size=count).tolist()
        scale = batch.hr.shape[-1] // batch.lr.shape[-1]
        side = batch.lr.shape[-1] - self._recipe.trim_px
        mine = [np.random.default_rng(seeds[i]) for i in self._shard(count)]
        made = [
            self._damaged(lr, hr, side, scale, random)
            for lr, hr, random in zip(_pictures(batch.lr), _pictures(batch.hr), mine, strict=True)
        ]
        lr, hr, levels = zip(*made, strict=True)
        return Batch(_tensor(lr), _tensor(hr), levels=torch.tensor(levels, dtype=torch.float32))

    def _damaged(
        self, lr: Picture, hr: Picture, side: int, scale: int, random: np.random.Generator
    ) -> tuple[Picture, Picture, tuple[float, float]]:
        lr, levels = self._damage(np.ascontiguousarray(lr), random)
        top = left = 0
        if self._recipe.trim_px and random.random() >= self._recipe.aligned_share:
            top, left = random.integers(BLOCK_PX, size=2).tolist()
        return (
            lr[top : top + side, left : left + side],
            hr[top * scale : (top + side) * scale, left * scale : (left + side) * scale],
            levels,
        )

    def _damage(
        self, picture: Picture, random: np.random.Generator
    ) -> tuple[Picture, tuple[float, float]]:
        recipe = self._recipe
        sigma = quality = UNKNOWN
        if recipe.reduce > 1:
            picture = soften(picture, recipe.reduce)
        noise, blocks = recipe.noise_max > 0, recipe.jpeg_max > 0
        if noise and blocks:
            kind = random.random()
            noise = not recipe.noise_share <= kind < recipe.noise_share + recipe.jpeg_share
            blocks = kind >= recipe.noise_share
        if noise:
            sigma = recipe.noise_max * random.random() ** recipe.noise_power
            picture = add_noise(picture, sigma, random)
        if blocks:
            share = random.random() ** recipe.jpeg_power
            quality = int(recipe.jpeg_min + (recipe.jpeg_max + 1 - recipe.jpeg_min) * share)
            picture = jpeg(picture, quality, subsampling=int(random.choice([0, 2])))
        return picture, (sigma, quality)

    def state(self) -> dict[str, Any]:
        """Return the states of the source and of the damage."""
        return {"source": self._source.state(), "damage": dict(self._random.bit_generator.state)}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore both states."""
        self._source.restore(state["source"])
        self._random.bit_generator.state = state["damage"]


def wrap(source: Source, recipe: Recipe, shard: Shard = WHOLE) -> Source:
    """Return the source, damaged if the recipe says so; `shard` must be the source's own."""
    return Corrupting(source, recipe.corrupt, recipe.seed, shard) if recipe.corrupt.on else source


def versions_of(
    tests: Mapping[str, Sequence[Pair]], recipe: CorruptRecipe
) -> dict[str, list[Pair]]:
    """Return each test set once per kind of damage in the recipe, the same in every run.

    Names: `Set5 noise 25`, `Set5 JPEG 10`, `Set5 soft 4`. Without damage, sets are unchanged.
    """
    versions: dict[str, list[Pair]] = {}
    for name, pairs in tests.items():
        if not recipe.on:
            versions[name] = list(pairs)
        if recipe.reduce > 1:
            made = [soften(pair.lr, recipe.reduce) for pair in pairs]
            versions[f"{name} soft {recipe.reduce}"] = _with_lr(pairs, made)
        if recipe.noise_max > 0:
            made = [
                add_noise(pair.lr, TEST_SIGMA, np.random.default_rng(index))
                for index, pair in enumerate(pairs)
            ]
            versions[f"{name} noise {TEST_SIGMA:.0f}"] = _with_lr(pairs, made)
        if recipe.jpeg_max > 0:
            made = [jpeg(pair.lr, TEST_QUALITY) for pair in pairs]
            versions[f"{name} JPEG {TEST_QUALITY}"] = _with_lr(pairs, made)
    return versions


def _with_lr(pairs: Sequence[Pair], pictures: Sequence[Picture]) -> list[Pair]:
    return [Pair(pair.name, lr, pair.hr) for pair, lr in zip(pairs, pictures, strict=True)]


def _pictures(batch: Tensor) -> Picture:
    """Convert (N, 3, H, W) in 0..1, exact levels of 255, to (N, H, W, 3) uint8."""
    pictures: Picture = (batch * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pictures


def _tensor(pictures: Sequence[Picture]) -> Tensor:
    # NHWC memory viewed as NCHW is exactly torch's channels_last
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255.0
