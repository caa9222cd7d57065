"""What a run minimises: the networks, their optimisers, and one step.

The loop knows nothing of losses; an objective knows nothing of files, schedules of saving or
evaluation. `build` is the only place that knows which recipe means which class.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from training.data import Batch
from training.objectives import small
from training.objectives.ae import Restore
from training.objectives.gan import Gan
from training.objectives.pixel import Pixel
from training.objectives.unpaired import Unpaired
from training.objectives.vae import Elbo
from training.recipe import Recipe

__all__ = ["Elbo", "Gan", "Objective", "Pixel", "Restore", "Unpaired", "build"]


class Objective(Protocol):
    """The seam between the loop and the mathematics."""

    network: nn.Module
    """The network that is averaged, evaluated and shipped."""

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one optimiser step (or one of each network) and return the losses by name.

        `step` counts from 0 and sets the learning rate. The value under `loss` is what is shown.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that an exact resume needs, by name."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""


def build(recipe: Recipe) -> Objective:
    """Build the objective that a recipe describes, freshly initialised."""
    if recipe.small.on:
        return small.build(recipe)
    if recipe.family == "ae":
        return Restore(recipe)
    if recipe.family == "vae":
        return Elbo(recipe)
    if recipe.objective == "gan":
        return Gan(recipe)
    if recipe.mode == "unpaired":
        return Unpaired(recipe)
    return Pixel(recipe)
