"""Open a checkpoint of `python -m training` as a source, or interpolate two."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from export.errors import ExportError
from export.hashing import file_sha256
from export.protocol import Source
from export.sources.module import torch_source
from export.sources.vae import VaeSource
from training import networks
from training.checkpoint import load_weights
from training.recipe.schema import Recipe, recipe_from_dict

SMALL_SIZE = 64
"""Sizes up to this may be those of parts that only the training has."""


def open_checkpoint(path: Path) -> Source:
    """Open a checkpoint of `python -m training`.

    Raises:
        checkpoint.CheckpointError: the file is not a checkpoint of `python -m training`.
        RecipeError: its recipe has another version.
        ExportError: its weights do not fit its recipe.
    """
    tensors, recipe = _trained(path)
    return _source_of(path, tensors, recipe)


def _trained(path: Path) -> tuple[dict[str, Tensor], Recipe]:
    tensors, facts = load_weights(path)
    recipe = recipe_from_dict(facts["recipe"], source=str(path))
    _check_size(path, tensors, recipe)
    if recipe.small.on:
        raise ExportError(
            f"{path}: the textbook forms on small pictures are not upscalers; "
            "export their parts as tests/training/objectives/test_small.py does"
        )
    return tensors, recipe


def _check_size(path: Path, tensors: dict[str, Tensor], recipe: Recipe) -> None:
    """Reject a recipe that describes a much larger network than the file has weights for.

    A width is a side of a tensor, and each layer has a tensor of its own, so this is known before
    gigabytes are allocated.
    """
    sides = [side for tensor in tensors.values() if tensor.numel() for side in tensor.shape]
    largest = max(SMALL_SIZE, len(tensors), *sides, 0)
    used = {"ae": (recipe.ae,), "vae": (recipe.network, recipe.vae)}
    for table in used.get(recipe.family, (recipe.network,)):
        for name, value in vars(table).items():
            if type(value) is int and value > largest:
                raise ExportError(
                    f"{path} is damaged: its recipe has {name} = {value}, but its {len(tensors)} "
                    f"tensors have sides up to {max(sides, default=0)}"
                )


def _gan_weights(path: Path) -> tuple[dict[str, Tensor], Recipe]:
    tensors, recipe = _trained(path)
    if recipe.family != "gan":
        raise ExportError(
            f"{path}: weights of family {recipe.family} cannot be mixed, expected gan"
        )
    return tensors, recipe


def _source_of(path: Path, tensors: dict[str, Tensor], recipe: Recipe) -> Source:
    network = networks.for_recipe(recipe)
    try:
        networks.warm_start(network, tensors)
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise ExportError(f"{path}: its weights do not fit its recipe: {reason}") from error
    if isinstance(network, networks.ConditionalVae):
        return VaeSource(network, name=recipe.name, sha256=file_sha256(path))
    return torch_source(
        networks.deployed(network),
        name=recipe.name,
        family=recipe.family,
        scale=recipe.scale,
        channels=int(getattr(network, "colors", 3)),
        sha256=file_sha256(path),
        multiple_px=int(getattr(network, "multiple_px", 1)),
        architecture=type(network).__name__,
        recipe=recipe,
        inputs=recipe.ae.inputs() if recipe.family == "ae" else None,
        input_ranges=recipe.ae.input_ranges(recipe.corrupt) if recipe.family == "ae" else None,
    )


def open_mixture(path: Path, parent: Path, texture: float) -> Source:
    """Open (1 - texture) * parent + texture * checkpoint, both of `python -m training`.

    Network interpolation (ESRGAN, arXiv:1809.00219). Name and hash are those of the checkpoint.

    Raises:
        ExportError: the family of one is not `gan`, or the architectures differ.
        checkpoint.CheckpointError: one is not a checkpoint of `python -m training`.
        RecipeError: the recipe of one has another version.
    """
    (tensors, recipe), (base, older) = _gan_weights(path), _gan_weights(parent)
    for what in ("scale", "network"):
        ours, theirs = getattr(recipe, what), getattr(older, what)
        if ours != theirs:
            raise ExportError(
                f"{path} and {parent} cannot be mixed: {what} is {ours} and {theirs}, "
                "expected one architecture"
            )
    try:
        mixed = networks.interpolate(base, tensors, texture)
    except ValueError as error:
        raise ExportError(f"{path} and {parent} cannot be mixed: {error}") from error
    return _source_of(path, mixed, recipe)
