"""Pictures in memory, and random patches of them."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from training.resize import Picture, imresize

log = logging.getLogger(__name__)

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


class DataError(ValueError):
    """A folder that holds nothing to train or test on; the message says what was found."""


@dataclass(frozen=True)
class Pair:
    """A low-resolution picture and its truth, (H, W, 3) and (H * scale, W * scale, 3) uint8."""

    name: str
    lr: Picture
    hr: Picture


def find_pictures(folder: Path) -> list[Path]:
    """Return all picture files below `folder`, sorted.

    Raises:
        DataError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise DataError(f"{folder}: no pictures in it ({', '.join(sorted(SUFFIXES))})")
    return found


def read_rgb(path: Path) -> Picture:
    """Decode one file to (H, W, 3) uint8 RGB."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def make_pair(hr: Picture, scale: int, name: str = "") -> Pair:
    """Crop the truth to a multiple of the scale and reduce it with MATLAB's bicubic."""
    height, width = (side - side % scale for side in hr.shape[:2])
    cropped = np.ascontiguousarray(hr[:height, :width])
    lr = cropped if scale == 1 else imresize(cropped, 1 / scale)
    return Pair(name, lr, cropped)


def load_pairs(folder: Path, scale: int, *, min_px: int = 1) -> list[Pair]:
    """Decode every picture below `folder` and make its low-resolution twin.

    Files that cannot be decoded, or with a side of under `min_px`, are skipped with a warning.

    Raises:
        DataError: nothing usable was found.
    """
    paths = find_pictures(folder)
    with ThreadPoolExecutor() as pool:
        loaded = list(pool.map(lambda path: _load_pair(path, scale, min_px), paths))
    pairs = [pair for pair in loaded if pair is not None]
    if len(pairs) < len(paths):
        log.warning("%s: %d of %d pictures skipped", folder, len(paths) - len(pairs), len(paths))
    if not pairs:
        raise DataError(f"{folder}: none of {len(paths)} pictures is usable (min. {min_px} px)")
    return pairs


def _load_pair(path: Path, scale: int, min_px: int) -> Pair | None:
    try:
        hr = read_rgb(path)
    except (UnidentifiedImageError, OSError) as error:
        log.warning("skipped, not decodable: %s: %s", path, error)
        return None
    if min(hr.shape[:2]) < min_px:
        log.warning("skipped, under %d px: %s", min_px, path)
        return None
    return make_pair(hr, scale, path.stem)


@dataclass(frozen=True)
class Batch:
    """One step's worth of patches, float32, 0..1, channels last in memory."""

    lr: Tensor
    """(N, 3, P, P)"""
    hr: Tensor
    """(N, 3, P * scale, P * scale)"""


class Patches:
    """An endless source of random batches.

    A picture is drawn with a probability proportional to its area, then a place, then one of the
    eight flips and rotations. All randomness comes from one generator whose state can be saved.
    """

    def __init__(self, pairs: list[Pair], patch_px: int, batch: int, seed: int) -> None:
        areas = np.array([pair.lr.shape[0] * pair.lr.shape[1] for pair in pairs], np.float64)
        self._pairs = pairs
        self._chance = areas / areas.sum()
        self._patch_px = patch_px
        self._batch = batch
        self._random = np.random.default_rng(seed)

    def draw(self) -> Batch:
        """Return the next batch."""
        picks = self._random.choice(len(self._pairs), self._batch, p=self._chance)
        crops = [self._crop(self._pairs[pick]) for pick in picks]
        lr = torch.from_numpy(np.stack([crop[0] for crop in crops]))
        hr = torch.from_numpy(np.stack([crop[1] for crop in crops]))
        # NHWC in memory seen as NCHW is exactly torch's channels_last
        return Batch(lr.permute(0, 3, 1, 2) / 255.0, hr.permute(0, 3, 1, 2) / 255.0)

    def _crop(self, pair: Pair) -> tuple[Picture, Picture]:
        size = self._patch_px
        scale = pair.hr.shape[0] // pair.lr.shape[0]
        top = int(self._random.integers(pair.lr.shape[0] - size + 1))
        left = int(self._random.integers(pair.lr.shape[1] - size + 1))
        flip = int(self._random.integers(8))
        lr = pair.lr[top : top + size, left : left + size]
        hr = pair.hr[
            top * scale : (top + size) * scale,
            left * scale : (left + size) * scale,
        ]
        return _dihedral(lr, flip), _dihedral(hr, flip)

    def state(self) -> dict[str, Any]:
        """Return the generator's state, plain and JSON-serialisable."""
        return dict(self._random.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._random.bit_generator.state = state


def _dihedral(patch: Picture, flip: int) -> Picture:
    if flip & 1:
        patch = patch[::-1]
    if flip & 2:
        patch = patch[:, ::-1]
    if flip & 4:
        patch = patch.swapaxes(0, 1)
    return patch
