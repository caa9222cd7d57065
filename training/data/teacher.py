"""Knowledge distillation: a trained network's outputs, for a smaller network to learn from.

The smaller network learns from the larger one's output as well as from the truth. The teacher's
output is its self-ensemble, the mean over the eight flips and rotations of the input (Timofte et
al. 2016, arXiv:1511.02228), which is better than any one of them and commutes with the flips of the
patches. It is computed once per picture and stored next to the decoded pictures: in the loop it
would cost more than the network that learns.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from training import networks
from training.checkpoint import load_weights, publish
from training.data import cache
from training.data.pictures import DataError, Pair
from training.data.resize import Picture
from training.recipe.schema import recipe_from_dict

log = logging.getLogger(__name__)

FLIPS = 8


def add_teacher_outputs(
    pairs: Sequence[Pair], weights: Path, scale: int, folder: Path | None
) -> list[Pair]:
    """Add the teacher's output to every pair.

    Args:
        pairs: pictures to train on.
        weights: checkpoint of a plain network of the same scale.
        scale: scale of the pairs.
        folder: cache folder of the teacher's outputs; the user's cache folder if not given.

    Raises:
        DataError: the teacher has another scale or is of another family, or the disk is full.
        CheckpointError: not a checkpoint.
    """
    state, facts = load_weights(weights)
    recipe = recipe_from_dict(facts["recipe"], source=str(weights))
    if (recipe.family, recipe.scale) != ("gan", scale):
        got = f"family {recipe.family!r}, x{recipe.scale}"
        raise DataError(f"{weights}: {got}, expected a teacher of family 'gan', x{scale}")
    stored = (folder or cache.default_folder()) / f"teacher_{_key(pairs, state)}.u8"
    if not stored.is_file():
        net = networks.for_recipe(recipe)
        networks.warm_start(net, state)
        net = networks.deployed(net).eval()
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            _write(stored, pairs, net)
        except OSError as error:
            raise DataError(f"{stored}: cannot be written: {error}; see --cache") from error
        log.info("%s: wrote %d teacher pictures", stored, len(pairs))
    return _read(stored, pairs)


@torch.no_grad()
def self_ensemble(net: Callable[[Tensor], Tensor], lr: Picture) -> Picture:
    """Return the mean of a network's outputs over the eight flips and rotations of the input.

    Args:
        net: (1, 3, H, W) to (1, 3, H * scale, W * scale), float, 0..1.
        lr: (H, W, 3) uint8.

    Returns:
        (H * scale, W * scale, 3) uint8.
    """
    x = torch.from_numpy(lr.copy()).permute(2, 0, 1)[None].float() / 255.0
    total = sum(_unflipped(net(_flipped(x, flip)), flip) for flip in range(FLIPS))
    assert isinstance(total, Tensor)
    mean = (total / FLIPS).clamp(0, 1) * 255.0
    picture: Picture = mean[0].round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return picture


def _flipped(x: Tensor, flip: int) -> Tensor:
    """Apply one of eight: bit 1 mirrors the rows, bit 2 the columns, bit 4 swaps them."""
    axes = [axis for bit, axis in ((1, 2), (2, 3)) if flip & bit]
    x = x.flip(axes) if axes else x
    return x.transpose(2, 3) if flip & 4 else x


def _unflipped(y: Tensor, flip: int) -> Tensor:
    """Undo `_flipped`."""
    y = y.transpose(2, 3) if flip & 4 else y
    axes = [axis for bit, axis in ((1, 2), (2, 3)) if flip & bit]
    return y.flip(axes) if axes else y


def _key(pairs: Sequence[Pair], state: dict[str, Tensor]) -> str:
    """Hash what determines the outputs: the inputs and the weights."""
    found = hashlib.sha256()
    for name in sorted(state):
        found.update(name.encode() + state[name].float().numpy().tobytes())
    for pair in pairs:
        found.update(repr(pair.lr.shape).encode() + np.ascontiguousarray(pair.lr).data)
    return found.hexdigest()[:24]


def _write(stored: Path, pairs: Sequence[Pair], net: nn.Module) -> None:
    """Write all outputs one after another to a temporary name, then rename it."""
    stored.parent.mkdir(parents=True, exist_ok=True)
    temporary = stored.with_name(f".{stored.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for pair in tqdm(pairs, desc="teacher", unit="picture", disable=None):
                file.write(self_ensemble(net, pair.lr).data)
        publish(temporary, stored)
    finally:
        temporary.unlink(missing_ok=True)


def _read(stored: Path, pairs: Sequence[Pair]) -> list[Pair]:
    pixels = np.memmap(stored, np.uint8, "r")
    found, offset = [], 0
    for pair in pairs:
        count = math.prod(pair.hr.shape)
        picture: Picture = np.asarray(pixels[offset : offset + count]).reshape(pair.hr.shape)
        found.append(dataclasses.replace(pair, teacher=picture))
        offset += count
    return found
