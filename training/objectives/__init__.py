"""Training objectives: the networks, their optimizers, and one training step.

The loop knows nothing about losses; an objective knows nothing about files, saving or evaluation.
Only `build` maps recipes to classes.

Uses: checkpoint, data, losses, networks, optimizers, recipe.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from training.data.pictures import Batch
from training.objectives import small
from training.objectives.ae import Restore
from training.objectives.gan import Gan
from training.objectives.noisy import Noisy
from training.objectives.pixel import Pixel
from training.objectives.unpaired import Unpaired
from training.objectives.vae import Elbo
from training.recipe.schema import Recipe

__all__ = ["Elbo", "Gan", "Noisy", "Objective", "Pixel", "Restore", "Unpaired", "build"]


class Objective(Protocol):
    """Interface between the training loop and the losses."""

    network: nn.Module
    """The network that is averaged, evaluated and shipped."""

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one optimizer step (or one of each network) and return the losses by name.

        `step` counts from 0 and sets the learning rate. The progress bar shows `loss`.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that an exact resume needs, by name."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned."""


def build(recipe: Recipe) -> Objective:
    """Build the objective that a recipe describes, freshly initialized."""
    if recipe.small.on:
        return small.build(recipe)
    if recipe.family == "ae":
        return Noisy(recipe) if recipe.mode == "noisy" else Restore(recipe)
    if recipe.family == "vae":
        return Elbo(recipe)
    if recipe.objective == "gan":
        return Gan(recipe)
    if recipe.mode == "unpaired":
        return Unpaired(recipe)
    return Pixel(recipe)
