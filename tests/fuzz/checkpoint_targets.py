"""Fuzz target for training checkpoints."""

from __future__ import annotations

from tests.fuzz.workplace import check_message, stored
from training import checkpoint
from training.checkpoint import CheckpointError
from training.recipe.schema import RecipeError, recipe_from_dict


def weights(data: bytes) -> None:
    """Read a checkpoint and its recipe, as the export does: our own error, or a recipe."""
    path = stored("weights.safetensors", data)
    try:
        _, facts = checkpoint.load_weights(path)
        recipe_from_dict(facts["recipe"], source="fuzz")
    except (CheckpointError, RecipeError) as error:
        check_message(str(error))
