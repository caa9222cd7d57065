"""Optimisers, schedules, averages: what all objectives share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training import distributed
from training.recipe import OptimiserRecipe, Recipe


def adamw(net: nn.Module, recipe: OptimiserRecipe) -> torch.optim.AdamW:
    """Return AdamW without decay over a network's parameters (Loshchilov and Hutter 2019)."""
    return torch.optim.AdamW(
        net.parameters(),
        lr=recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        weight_decay=0.0,
    )


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine."""
    peak, low = recipe.optimiser.learning_rate, recipe.optimiser.final_fraction
    warm = min(1.0, (step + 1) / max(1, recipe.optimiser.warm_up))
    cosine = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    return peak * warm * (low + (1 - low) * cosine)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set it for all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def descend(
    optimiser: torch.optim.Optimizer, net: nn.Module, loss: Tensor, clip_norm: float
) -> None:
    """One step against the gradient of `loss`, its global norm clipped."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    distributed.average_gradients(net)
    nn.utils.clip_grad_norm_(net.parameters(), clip_norm)
    optimiser.step()


@torch.no_grad()
def average(ema: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights towards the current ones."""
    # the first steps count fully: an average that remembers the initialisation scores badly early
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(ema.parameters(), net.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
