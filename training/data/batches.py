"""Build the batch source of a recipe: one `Source` for every mode.

Only `build` maps recipes to sources.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data import cache, degradation, teacher
from training.data.pictures import (
    WHOLE,
    DataError,
    Pair,
    Patches,
    Shard,
    Source,
    decode,
    find_pictures,
    make_pair,
    refuse,
)
from training.data.resize import imresize
from training.data.sources import Degrading, UnpairedPatches
from training.data.synthetic import dead_leaves, drawings
from training.recipe.data import DegradationRecipe
from training.recipe.schema import Recipe

HOLDOUT_PICTURES = 16
"""Largest number of pictures that are scored for validation."""
HOLDOUT_PX = 256
"""Largest side of the central square that is scored of each."""
GENERATORS = {"dead_leaves": dead_leaves.pairs, "drawings": drawings.pairs}
"""Generators of pictures, by `data.pictures`."""


@dataclass(frozen=True)
class Folders:
    """Files and folders that a run reads."""

    data: Path | None = None
    """High-resolution pictures; in mode `adapt`, without `lr`, the low-resolution ones."""
    lr: Path | None = None
    """Low-resolution pictures of the modes `paired`, `unpaired` and, if given, `adapt`."""
    cache: Path | None = None
    """Folder of decoded pictures; the user's cache folder if not given."""
    teacher: Path | None = None
    """Weights of the network to learn from, for `loss.teacher`."""


@dataclass(frozen=True)
class TrainingData:
    """Training source and validation split of a run."""

    source: Source
    holdout: list[Pair]
    """Never trained on; empty if there are too few pictures or no truth."""


def build(recipe: Recipe, folders: Folders, shard: Shard = WHOLE) -> TrainingData:
    """Build the training source and the validation split of a recipe.

    Raises:
        DataError: a folder that the mode needs is missing or holds nothing usable.
    """
    size, batch, seed = recipe.data.patch_px, recipe.data.batch, recipe.seed
    if recipe.mode == "paired":
        train, held = _split(_paired(recipe, folders), recipe.data.holdout)
        source = Patches(train, size, batch, seed, shard, area_power=recipe.data.area_power)
        return TrainingData(source, _central(held, recipe.scale))
    found, generated = _found(recipe, folders), _generated(recipe)
    pairs = [*generated, *found]
    if recipe.mode == "unpaired":
        real = [pair.hr for pair in _low_resolution(recipe, folders)]
        return TrainingData(UnpairedPatches(real, [pair.hr for pair in pairs], recipe, shard), [])
    if recipe.mode == "noisy":
        # no truth to score against, so nothing is held out
        source = Patches(pairs, size, batch, seed, shard, area_power=recipe.data.area_power)
        return TrainingData(source, [])
    train, held = _split(pairs, recipe.data.holdout)
    made = {id(pair) for pair in generated}
    copied = [pair for pair in train if id(pair) not in made]
    train = [*_at_full_size(train, recipe), *_reduced_copies(copied, recipe)]
    if not train:
        limit = recipe.data.full_size_below_px
        raise DataError(
            f"all pictures have a side of {limit} px or more, and no reduced copy has "
            f"{recipe.data.patch_px * recipe.scale} px: raise full_size_below_px or reduced_copies"
        )
    if recipe.loss.teacher:
        weights = _required(folders.teacher, "--teacher WEIGHTS", "the network to learn from")
        train = teacher.add_teacher_outputs(train, weights, recipe.scale, folders.cache)
    held = degraded(_central(held, recipe.scale), recipe.scale, recipe.degradation)
    if recipe.degradation.kind == "bicubic" and recipe.data.rescale_from == 1:
        source = Patches(
            train,
            size,
            batch,
            seed,
            shard,
            area_power=recipe.data.area_power,
            color_changes=recipe.data.color_changes,
        )
        return TrainingData(source, held)
    return TrainingData(Degrading([pair.hr for pair in train], recipe, shard), held)


def _generated(recipe: Recipe) -> list[Pair]:
    """Return the generated pictures. No copy is reduced: their finest patterns would vanish."""
    data = recipe.data
    if data.pictures == "folder":
        return []
    side = max(data.generated_px, data.patch_px * recipe.scale)
    return GENERATORS[data.pictures](data.generated, side, recipe.scale, recipe.seed)


def _found(recipe: Recipe, folders: Folders) -> list[Pair]:
    """Return the high-resolution pictures of `--data`, of all modes but `paired`."""
    data, min_px = recipe.data, recipe.data.patch_px * recipe.scale
    if data.pictures != "folder" and folders.data is None:
        return []
    folder = _required(folders.data, "--data DIR", "a folder of pictures")
    return cache.pairs(folder, recipe.scale, min_px=min_px, gray=data.gray, cache=folders.cache)


def _at_full_size(pairs: list[Pair], recipe: Recipe) -> list[Pair]:
    """Return the pairs that are trained on at their own size."""
    limit = recipe.data.full_size_below_px
    return [pair for pair in pairs if max(pair.hr.shape[:2]) < limit] if limit else pairs


def _reduced_copies(pairs: Sequence[Pair], recipe: Recipe) -> list[Pair]:
    """Return the pairs of the reduced pictures that are still large enough for a patch."""
    min_px = recipe.data.patch_px * recipe.scale
    wanted = [
        (pair, factor)
        for factor in recipe.data.reduced_copies
        for pair in pairs
        if int(min(pair.hr.shape[:2]) * factor) >= min_px + recipe.scale
    ]

    def make(pair: Pair, factor: float) -> Pair:
        return make_pair(imresize(pair.hr, factor), recipe.scale, pair.name)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda each: make(*each), wanted))


def _low_resolution(recipe: Recipe, folders: Folders) -> list[Pair]:
    folder = _required(folders.lr, "--lr DIR", "real low-resolution pictures")
    size = recipe.data.patch_px
    return cache.pairs(folder, 1, min_px=size, gray=recipe.data.gray, cache=folders.cache)


def _required(folder: Path | None, flag: str, what: str) -> Path:
    if folder is None:
        raise DataError(f"this recipe needs {flag}: {what}")
    return folder


def _paired(recipe: Recipe, folders: Folders) -> list[Pair]:
    """Return pairs from two folders, matched by their paths without suffix or `x4`."""
    hr_folder = _required(folders.data, "--data DIR", "the high-resolution pictures")
    lr_folder = _required(folders.lr, "--lr DIR", "their low-resolution counterparts")
    by_name = {_pair_name(p, lr_folder, recipe.scale): p for p in find_pictures(lr_folder)}
    paths = find_pictures(hr_folder)

    def load(path: Path) -> Pair | str:
        name = _pair_name(path, hr_folder, recipe.scale)
        if name not in by_name:
            return f"no {name}.* in {lr_folder}"
        hr, lr = decode(path), decode(by_name[name], min_px=recipe.data.patch_px)
        if isinstance(hr, str) or isinstance(lr, str):
            return hr if isinstance(hr, str) else f"its low-resolution counterpart: {lr}"
        if hr.shape[:2] != (lr.shape[0] * recipe.scale, lr.shape[1] * recipe.scale):
            return f"{hr.shape[:2]} is not {recipe.scale} times the low-resolution {lr.shape[:2]}"
        return Pair(name, lr, hr)

    with ThreadPoolExecutor() as pool:
        loaded = list(zip(paths, pool.map(load, paths), strict=True))
    refuse(hr_folder, {path: what for path, what in loaded if isinstance(what, str)}, len(paths))
    return [pair for _, pair in loaded if isinstance(pair, Pair)]


def _pair_name(path: Path, folder: Path, scale: int) -> str:
    """Return the name that a pair shares: DIV2K pairs `0001.png` with `0001x4.png`."""
    return path.relative_to(folder).with_suffix("").as_posix().removesuffix(f"x{scale}")


def _split(pairs: list[Pair], share: float) -> tuple[list[Pair], list[Pair]]:
    """Hold out a share of the pictures by a hash of their names, so that it never changes.

    At least one of ten or more pictures is held out; none of fewer.
    """
    if share == 0 or len(pairs) < 10:
        return pairs, []
    ranks = [int(hashlib.sha256(pair.name.encode()).hexdigest()[:12], 16) for pair in pairs]
    limit = max(share * 16**12, min(ranks) + 1)
    held = [pair for pair, rank in zip(pairs, ranks, strict=True) if rank < limit]
    return [pair for pair, rank in zip(pairs, ranks, strict=True) if rank >= limit], held


def _central(pairs: list[Pair], scale: int) -> list[Pair]:
    """Return the central squares that validation scores."""
    cut = []
    for pair in pairs[:HOLDOUT_PICTURES]:
        side = min(HOLDOUT_PX // scale, *pair.lr.shape[:2])
        top, left = ((length - side) // 2 for length in pair.lr.shape[:2])
        lr = pair.lr[top : top + side, left : left + side]
        top, left, side = top * scale, left * scale, side * scale
        cut.append(Pair(pair.name, lr, pair.hr[top : top + side, left : left + side]))
    return cut


def degraded(pairs: list[Pair], scale: int, recipe: DegradationRecipe) -> list[Pair]:
    """Replace the inputs of pairs by those of a degradation, the same in every run."""
    if recipe.kind == "bicubic":
        return pairs
    return [
        Pair(
            pair.name,
            degradation.reduce(pair.hr, scale, recipe, np.random.default_rng(number)),
            pair.hr,
        )
        for number, pair in enumerate(pairs)
    ]
