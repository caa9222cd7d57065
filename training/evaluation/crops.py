"""Sheet of chosen crops at 100 % zoom: the same regions of the same pictures for every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.data.corruption import TEST_QUALITY, TEST_SIGMA, add_noise, jpeg
from training.data.pictures import DataError, Pair, find_pictures
from training.data.resize import Picture
from training.evaluation import report
from training.evaluation.evaluate import bicubic
from training.evaluation.metrics import psnr_y
from training.evaluation.subject import Model
from training.recipe.table import from_table, read_toml


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A rectangle of a ground-truth picture, and what it shows."""

    label: str
    """What it shows: text, face, foliage, fabric, sky, drawing, edges or other."""
    set: str
    """Name of the folder."""
    picture: str
    """Name of the file without suffix."""
    x: int
    """Left, HR pixels."""
    y: int
    """Top, HR pixels."""
    width: int = 160
    """HR pixels."""
    height: int = 160
    """HR pixels."""


@dataclass(frozen=True, kw_only=True)
class Crops:
    """A whole TOML file of crops."""

    crop: tuple[Crop, ...]
    """One row of the sheet per crop."""


def read(path: Path, folders: Sequence[Path]) -> tuple[Crop, ...]:
    """Read a TOML file of crops and check that all lie inside pictures of the folders.

    Raises:
        RecipeError: not TOML, an unknown or a missing key, a wrong type.
        DataError: a folder or a picture is missing, or a crop is outside its picture.
    """
    crops = from_table(Crops, read_toml(path), str(path)).crop
    if not crops:
        raise DataError(f"{path}: no crop in it, expected [[crop]] tables")
    by_name = {folder.resolve().name: folder for folder in folders}
    for crop in crops:
        where = f"{path}: crop '{crop.label}'"
        if crop.set not in by_name:
            given = ", ".join(by_name)
            raise DataError(f"{where}: set {crop.set}, expected one of --data: {given}")
        found = [p for p in find_pictures(by_name[crop.set]) if p.stem == crop.picture]
        if not found:
            raise DataError(f"{where}: no picture {crop.picture} in {by_name[crop.set]}")
        with Image.open(found[0]) as image:
            _check_bounds(crop, image.size, where)
    return crops


def _check_bounds(crop: Crop, size: tuple[int, int], where: str) -> None:
    inside = crop.x >= 0 and crop.y >= 0 and crop.width > 0 and crop.height > 0
    if not (inside and crop.x + crop.width <= size[0] and crop.y + crop.height <= size[1]):
        raise DataError(
            f"{where}: {crop.width}x{crop.height} at {crop.x},{crop.y} is not inside "
            f"{crop.picture}, which is {size[0]}x{size[1]}"
        )


def sheet(model: Model, crops: Sequence[Crop], sets: Mapping[str, Sequence[Pair]]) -> Image.Image:
    """Lay out one row per crop, every picture at 100 % zoom of the HR pixels.

    Models that enlarge: the input (nearest neighbor), bicubic, the model, its samples and
    confidence if any, the truth. Models of x1: noise, restored, JPEG, restored, the truth.
    PSNR-Y is computed on the crop.

    Args:
        model: the model to show.
        crops: the regions to show.
        sets: the pairs of each folder, by folder name.
    """
    made: dict[tuple[str, str], list[tuple[str, Picture]]] = {}
    rows = []
    for crop in crops:
        key = (crop.set, crop.picture)
        if key not in made:
            made[key] = _columns(model, sets[crop.set], crop)
        rows.append(_row(crop, made[key]))
    return report.lay_out(rows)


def _columns(model: Model, pairs: Sequence[Pair], crop: Crop) -> list[tuple[str, Picture]]:
    """Return whole pictures and their names; the input first, the truth last."""
    names = [pair.name for pair in pairs]
    number = names.index(crop.picture)
    pair, scale = pairs[number], model.scale
    if scale == 1:
        noisy = add_noise(pair.hr, TEST_SIGMA, np.random.default_rng(number))
        coded = jpeg(pair.hr, TEST_QUALITY)
        return [
            (f"noise {TEST_SIGMA:.0f}", noisy),
            (model.name, model.upscale(noisy)),
            (f"JPEG {TEST_QUALITY}", coded),
            (model.name, model.upscale(coded)),
            ("HR", pair.hr),
        ]
    return [
        ("LR", pair.lr.repeat(scale, axis=0).repeat(scale, axis=1)),
        ("bicubic", bicubic(scale)(pair.lr)),
        (model.name, model.upscale(pair.lr)),
        *report.samples_and_confidence(model.net, pair.lr),
        ("HR", pair.hr),
    ]


def _row(crop: Crop, columns: Sequence[tuple[str, Picture]]) -> list[tuple[str, Picture]]:
    window = np.s_[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
    cut = [(name, np.ascontiguousarray(picture[window])) for name, picture in columns]
    truth = cut[-1][1]
    labels = [
        name
        if picture is truth or name == "confidence"
        else f"{name}, {psnr_y(picture, truth, border_px=0):.1f} dB"
        for name, picture in cut
    ]
    labels[0] = f"{crop.label}: {labels[0]}"
    return [(label, picture) for label, (_, picture) in zip(labels, cut, strict=True)]
