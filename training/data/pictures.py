"""Load pictures and draw random patches from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from training.data.resize import Picture, imresize

log = logging.getLogger(__name__)

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


LOWEST_CONTRAST = 0.5
"""Of a patch, with `data.color_changes`."""


class DataError(ValueError):
    """Data that cannot be trained or tested on; the message says what was found."""


@dataclass(frozen=True)
class Pair:
    """A low-resolution picture and its truth, (H, W, 3) and (H * scale, W * scale, 3) uint8."""

    name: str
    lr: Picture
    hr: Picture
    teacher: Picture | None = None
    """The teacher's output for `lr` (`training.data.teacher`), of the size of `hr`."""


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


def decode(path: Path, *, min_px: int = 1, gray: bool = True) -> Picture | str:
    """Return the decoded picture, or the reason why it cannot be used.

    Args:
        path: a file.
        min_px: shortest side that is accepted.
        gray: accept pictures whose three channels are equal everywhere.
    """
    try:
        picture = read_rgb(path)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        # Pillow reports damage inside a file as any of these
        return f"not decodable ({error})"
    if min(picture.shape[:2]) < min_px:
        return f"{picture.shape[1]}x{picture.shape[0]} is under {min_px} px"
    if not gray and not np.any(picture != picture[..., :1]):
        return "gray"
    return picture


def load_pairs(folder: Path, scale: int, *, min_px: int = 1) -> list[Pair]:
    """Decode every picture below `folder` and make its low-resolution counterpart.

    Files that cannot be decoded, or with a side of under `min_px`, are skipped with a warning.

    Raises:
        DataError: nothing usable was found.
    """
    paths = find_pictures(folder)

    def load(path: Path) -> Pair | str:
        picture = decode(path, min_px=min_px)
        return picture if isinstance(picture, str) else make_pair(picture, scale, path.stem)

    with ThreadPoolExecutor() as pool:
        loaded = list(zip(paths, pool.map(load, paths), strict=True))
    refuse(folder, {path: what for path, what in loaded if isinstance(what, str)}, len(paths))
    return [pair for _, pair in loaded if isinstance(pair, Pair)]


def refuse(folder: Path, reasons: dict[Path, str], found: int) -> None:
    """Report what was skipped and why.

    Raises:
        DataError: all `found` files were skipped.
    """
    for path, reason in reasons.items():
        log.warning("skipped, %s: %s", reason, path)
    if len(reasons) == found:
        some = "; ".join(f"{path.name}: {reason}" for path, reason in list(reasons.items())[:3])
        raise DataError(f"{folder}: none of {found} pictures is usable ({some})")
    if reasons:
        log.warning("%s: %d of %d pictures skipped", folder, len(reasons), found)


@dataclass(frozen=True)
class Batch:
    """One step's worth of patches, float32, 0..1, channels last in memory."""

    lr: Tensor
    """(N, 3, P, P)"""
    hr: Tensor
    """(N, 3, P * scale, P * scale)"""
    teacher: Tensor | None = None
    """The teacher's output for `lr`, of the size of `hr`; None without a teacher."""
    levels: Tensor | None = None
    """(N, 2), sigma of the noise (levels of 255) and JPEG quality of `lr`, -1 for none; None: `lr`
    was not damaged."""


def make_batch(lr: Sequence[Picture], hr: Sequence[Picture]) -> Batch:
    """Stack uint8 patches (P, P, 3) into one batch."""
    return Batch(_floats(lr), _floats(hr))


def _floats(patches: Sequence[Picture]) -> Tensor:
    pixels = torch.from_numpy(np.stack(patches))
    # cast first: dividing uint8 by a float takes 7 ms, this takes 0.4 ms (16 patches of 192 px)
    # NHWC memory viewed as NCHW is exactly torch's channels_last
    return pixels.float().div_(255.0).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Shard:
    """This process's part of every batch; all ranks draw the same random numbers."""

    rank: int = 0
    world: int = 1

    def __call__(self, count: int) -> range:
        """Return the indices of this rank's patches among `count`.

        Raises:
            DataError: the batch cannot be split evenly; unequal parts would weigh unequally.
        """
        if count % self.world:
            raise DataError(f"data.batch = {count} cannot be split among {self.world} processes")
        return range(self.rank, count, self.world)


WHOLE = Shard()
"""A single process, which makes whole batches."""


class Source(Protocol):
    """An endless, seeded source of batches."""

    def draw(self) -> Batch:
        """Return this process's part of the next batch."""

    def state(self) -> dict[str, Any]:
        """Return everything that an exact resume needs, JSON-serializable."""

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""


@dataclass(frozen=True)
class ColorChange:
    """Another order of the channels, then a lower contrast.

    Linear and the same for all pixels, as a reduction is: the pair stays one.
    """

    order: tuple[int, ...]
    gain: float
    offset: float

    def __call__(self, patch: Tensor) -> None:
        """Change (3, P, P), 0..1, in place."""
        patch.copy_(patch[list(self.order)].mul_(self.gain).add_(self.offset))


class Patches:
    """An endless source of random batches from existing pairs.

    A picture is drawn with a probability proportional to its area to the power of `area_power`,
    then a position, then one of the eight flips and rotations, and a change of color if wanted. All
    randomness comes from one generator whose state can be saved.
    """

    def __init__(
        self,
        pairs: list[Pair],
        patch_px: int,
        batch: int,
        seed: int,
        shard: Shard = WHOLE,
        *,
        area_power: float = 1.0,
        color_changes: bool = False,
    ) -> None:
        self._pairs = pairs
        self._color_changes = color_changes
        self._chance = area_chance([pair.lr for pair in pairs], area_power)
        self._patch_px = patch_px
        self._batch = batch
        self._mine = shard(batch)
        self._random = np.random.default_rng(seed)

    def draw(self) -> Batch:
        """Return the next batch."""
        picks = self._random.choice(len(self._pairs), self._batch, p=self._chance)
        positions = [self._position(self._pairs[pick].lr) for pick in picks]
        changes = [self._change() for _ in positions] if self._color_changes else []
        crops = [self._crop(self._pairs[picks[i]], *positions[i]) for i in self._mine]
        teacher = [crop.teacher for crop in crops if crop.teacher is not None]
        batch = Batch(
            _floats([crop.lr for crop in crops]),
            _floats([crop.hr for crop in crops]),
            _floats(teacher) if teacher else None,
        )
        for number, index in enumerate(self._mine if changes else ()):
            for patches in (batch.lr, batch.hr, batch.teacher):
                if patches is not None:
                    changes[index](patches[number])
        return batch

    def _change(self) -> ColorChange:
        """Draw a change of color; the same random numbers on all ranks."""
        order = self._random.permutation(3) if self._random.random() < 0.5 else np.arange(3)
        gain = float(self._random.uniform(LOWEST_CONTRAST, 1))
        return ColorChange(tuple(order.tolist()), gain, float(self._random.uniform(0, 1 - gain)))

    def _position(self, lr: Picture) -> tuple[int, int, int]:
        top = int(self._random.integers(lr.shape[0] - self._patch_px + 1))
        left = int(self._random.integers(lr.shape[1] - self._patch_px + 1))
        return top, left, int(self._random.integers(8))

    def _crop(self, pair: Pair, top: int, left: int, flip: int) -> Pair:
        scale = pair.hr.shape[0] // pair.lr.shape[0]

        def cut(picture: Picture, times: int) -> Picture:
            rows, columns = (
                slice(begin * times, (begin + self._patch_px) * times) for begin in (top, left)
            )
            return dihedral(picture[rows, columns], flip)

        teacher = None if pair.teacher is None else cut(pair.teacher, scale)
        return Pair(pair.name, cut(pair.lr, 1), cut(pair.hr, scale), teacher)

    def state(self) -> dict[str, Any]:
        """Return the generator's state, plain and JSON-serializable."""
        return dict(self._random.bit_generator.state)

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self._random.bit_generator.state = state


def area_chance(pictures: Sequence[Picture], power: float = 1.0) -> npt.NDArray[np.float64]:
    """Return each picture's probability, proportional to its area to the power of `power`."""
    areas = np.array([picture.shape[0] * picture.shape[1] for picture in pictures], np.float64)
    weights = areas**power
    chance: npt.NDArray[np.float64] = weights / weights.sum()
    return chance


def dihedral(patch: Picture, flip: int) -> Picture:
    """Return one of the eight flips and rotations of a square patch, 0 <= flip < 8."""
    if flip & 1:
        patch = patch[::-1]
    if flip & 2:
        patch = patch[:, ::-1]
    if flip & 4:
        patch = patch.swapaxes(0, 1)
    return patch
