"""What is evaluated: a network or a file, and how its inputs are made of the truth."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from training import networks
from training.corrupt import jpeg, versions_of
from training.data import DataError, Pair, load_pairs
from training.data_recipes import DegradationRecipe
from training.evaluate import Upscale, network, pad_to
from training.family_recipes import CorruptRecipe
from training.loop import load_weights
from training.recipe import recipe_from_dict
from training.resize import Picture
from training.sources import degraded

SMALLEST_PX = 32
"""Below this the coarsest level of a pyramid has no whole patch."""
UNDAMAGED = CorruptRecipe()
NOISE_AND_JPEG = CorruptRecipe(noise_max=50.0, jpeg_max=95)
"""What the file of a restorer is scored on, where no recipe says it."""
Input = Literal["bicubic", "realworld", "jpeg40", "jpeg75"]


@dataclass(frozen=True)
class Model:
    """Something to evaluate."""

    name: str
    scale: int
    upscale: Upscale
    degradation: DegradationRecipe
    """How its inputs are made."""
    net: nn.Module | None = None
    """Where there is one: it may have more to show than a picture."""
    jpeg: int | None = None
    """Quality that its inputs are compressed at in the end; None: not at all."""
    damage: CorruptRecipe = UNDAMAGED
    """What it undoes: a set is scored once for each kind of it."""

    @property
    def input(self) -> str:
        """How its inputs are made, in a word."""
        return self.degradation.kind if self.jpeg is None else f"jpeg{self.jpeg}"


def load_model(path: Path, device: torch.device) -> Model:
    """Open a checkpoint of a run (its averaged weights), or an ONNX file.

    Raises:
        ValueError: neither, or the weights do not fit the recipe they came with.
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
    """Open an exported file: uint8 NHWC in and out, padded to the multiple that it asks for."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError("an .onnx file needs: pip install onnxruntime") from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's exceptions share no other base
        told = str(error).strip().splitlines()[0]
        raise ValueError(f"{path}: ONNX Runtime cannot read it: {told}") from error
    entry = session.get_inputs()[0]
    if entry.type != "tensor(uint8)" or entry.shape[-1] != 3:
        raise ValueError(f"{path}: input {entry.shape} {entry.type}, expected (N, H, W, 3) uint8")
    manifest = json.loads(session.get_modelmeta().custom_metadata_map.get("srsdk.manifest", "{}"))
    multiple = int(manifest.get("multiple_px", 1))

    def upscale(lr: Picture) -> Picture:
        padded = pad_to(lr, multiple)
        feed = {entry.name: padded[None]}
        # of a distribution: noise of zeros gives its mean
        for port in session.get_inputs()[1:]:
            feed[port.name] = np.zeros((1, port.shape[1], *padded.shape[:2]), np.float32)
        result: Picture = session.run(None, feed)[0][0]
        height, width = (side * result.shape[0] // padded.shape[0] for side in lr.shape[:2])
        return result[:height, :width]

    scale = upscale(np.zeros((16, 16, 3), np.uint8)).shape[0] // 16
    restores = scale == 1 and manifest.get("family") == "ae"
    damage = NOISE_AND_JPEG if restores else UNDAMAGED
    return Model(path.stem, scale, upscale, DegradationRecipe(), damage=damage)


def with_input(model: Model, kind: Input) -> Model:
    """Return the model, to be evaluated on inputs of another kind."""
    recipe = DegradationRecipe(kind="realworld" if kind == "realworld" else "bicubic")
    quality = int(kind.removeprefix("jpeg")) if kind.startswith("jpeg") else None
    return dataclasses.replace(model, degradation=recipe, jpeg=quality, damage=UNDAMAGED)


def after(first: Model, model: Model) -> Model:
    """Return a model that sees what another one, of x1, makes of the input.

    Raises:
        ValueError: the first one changes the size.
    """
    if first.scale != 1:
        raise ValueError(f"{first.name} enlarges {first.scale} times, expected a model of x1")
    return dataclasses.replace(
        model,
        name=f"{first.name}, {model.name}",
        upscale=lambda lr: model.upscale(np.ascontiguousarray(first.upscale(lr))),
        net=None,
    )


def load_set(folder: Path, model: Model) -> list[Pair]:
    """Read a folder of ground truth and make the model's kind of input of it."""
    pairs = degraded(load_pairs(folder, model.scale), model.scale, model.degradation)
    large = [pair for pair in pairs if min(pair.hr.shape[:2]) >= SMALLEST_PX]
    if not large:
        raise DataError(f"{folder}: no picture of {SMALLEST_PX} px or more")
    if model.jpeg is None:
        return large
    return [Pair(pair.name, jpeg(pair.lr, model.jpeg), pair.hr) for pair in large]


def versions(name: str, pairs: list[Pair], model: Model) -> dict[str, list[Pair]]:
    """Return a set once for each kind of damage that the model undoes, or as it is, by name."""
    return versions_of({name: pairs}, model.damage)
