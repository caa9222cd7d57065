"""The model to evaluate, a network or an .onnx file, and how to make its inputs."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from training import networks
from training.checkpoint import load_weights
from training.data.batches import degraded
from training.data.color import with_luma
from training.data.corruption import jpeg, versions_of
from training.data.pictures import DataError, Pair, load_pairs
from training.data.resize import Picture
from training.evaluation.evaluate import Upscale, network, pad_to
from training.recipe.data import DegradationRecipe
from training.recipe.families import CorruptRecipe
from training.recipe.schema import recipe_from_dict

SMALLEST_PX = 32
"""Smallest side evaluated: below it, the coarsest pyramid level has no whole patch."""
UNDAMAGED = CorruptRecipe()
NOISE_AND_JPEG = CorruptRecipe(noise_max=50.0, jpeg_max=95)
"""Damage that an .onnx restorer, which has no recipe, is scored on."""
Input = Literal["bicubic", "realworld", "jpeg40", "jpeg75"]


@dataclass(frozen=True)
class Model:
    """A model to evaluate."""

    name: str
    scale: int
    upscale: Upscale
    degradation: DegradationRecipe
    """How its inputs are made."""
    net: nn.Module | None = None
    """The network, if available; it may also return samples and confidence."""
    jpeg: int | None = None
    """JPEG quality of the last step of making its inputs; None: no JPEG."""
    damage: CorruptRecipe = UNDAMAGED
    """Damage that it removes; a set is scored once per kind of damage."""

    @property
    def input(self) -> str:
        """Name of the way its inputs are made."""
        return self.degradation.kind if self.jpeg is None else f"jpeg{self.jpeg}"


def load_model(path: Path, device: torch.device) -> Model:
    """Load a checkpoint of a run (its averaged weights), or an ONNX file.

    Raises:
        ValueError: the file is neither, or its weights do not fit its recipe.
    """
    if path.suffix == ".onnx":
        return _onnx_model(path)
    state, facts = load_weights(path)
    recipe = recipe_from_dict(facts["recipe"], source=str(path))
    net = networks.for_recipe(recipe)
    networks.warm_start(net, state)
    net = net.to(device).eval()
    return Model(
        recipe.name, recipe.scale, network(net), recipe.degradation, net, damage=recipe.corrupt
    )


def _onnx_model(path: Path) -> Model:
    """Load an exported file: uint8 NHWC in and out, padded to the multiple it requires."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError("an .onnx file needs: pip install onnxruntime") from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's exceptions share no other base
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path}: ONNX Runtime cannot read it: {reason}") from error
    entry = session.get_inputs()[0]
    channels = entry.shape[-1]
    if entry.type != "tensor(uint8)" or channels not in (1, 3):
        raise ValueError(
            f"{path}: input {entry.shape} {entry.type}, expected uint8 (N, H, W, 3), or 1 for luma"
        )
    manifest = json.loads(session.get_modelmeta().custom_metadata_map.get("srsdk.manifest", "{}"))
    multiple, defaults = int(manifest.get("multiple_px", 1)), dict(manifest.get("inputs", {}))

    def upscale(lr: Picture) -> Picture:
        padded = pad_to(lr, multiple)
        feed = {entry.name: padded[None]}
        for port in session.get_inputs()[1:]:
            if len(port.shape) == 4:  # zero noise gives the mean of a VAE
                feed[port.name] = np.zeros((1, port.shape[1], *padded.shape[:2]), np.float32)
            else:  # the numbers beside the picture
                feed[port.name] = np.array(list(defaults.values()), np.float32)
        result: Picture = session.run(None, feed)[0][0]
        height, width = (side * result.shape[0] // padded.shape[0] for side in lr.shape[:2])
        return result[:height, :width]

    scale = upscale(np.zeros((16, 16, channels), np.uint8)).shape[0] // 16
    restores = scale == 1 and manifest.get("family") == "ae"
    damage = NOISE_AND_JPEG if restores else UNDAMAGED
    run = upscale if channels == 3 else partial(with_luma, upscale)
    return Model(path.stem, scale, run, DegradationRecipe(), damage=damage)


def with_input(model: Model, kind: Input) -> Model:
    """Return the model with another kind of input."""
    recipe = DegradationRecipe(kind="realworld" if kind == "realworld" else "bicubic")
    quality = int(kind.removeprefix("jpeg")) if kind.startswith("jpeg") else None
    return dataclasses.replace(model, degradation=recipe, jpeg=quality, damage=UNDAMAGED)


def after(first: Model, model: Model) -> Model:
    """Return a model that runs `first`, an x1 model, on its inputs.

    Raises:
        ValueError: `first` changes the size.
    """
    if first.scale != 1:
        raise ValueError(f"{first.name} enlarges {first.scale} times, expected an x1 model")
    return dataclasses.replace(
        model,
        name=f"{first.name}, {model.name}",
        upscale=lambda lr: model.upscale(np.ascontiguousarray(first.upscale(lr))),
        net=None,
    )


def load_set(folder: Path, model: Model) -> list[Pair]:
    """Read a folder of ground truth and make the model's inputs from it."""
    pairs = degraded(load_pairs(folder, model.scale), model.scale, model.degradation)
    large = [pair for pair in pairs if min(pair.hr.shape[:2]) >= SMALLEST_PX]
    if not large:
        raise DataError(f"{folder}: no picture of {SMALLEST_PX} px or more")
    if model.jpeg is None:
        return large
    return [Pair(pair.name, jpeg(pair.lr, model.jpeg), pair.hr) for pair in large]


def versions(name: str, pairs: list[Pair], model: Model) -> dict[str, list[Pair]]:
    """Return a set once per kind of damage that the model removes, or unchanged, by name."""
    return versions_of({name: pairs}, model.damage)
