"""Optimizer, learning-rate schedule and weight averaging, shared by all objectives."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training import distributed
from training.recipe.schema import OptimizerRecipe, Recipe


def adamw(net: nn.Module, recipe: OptimizerRecipe) -> torch.optim.AdamW:
    """Return AdamW without weight decay for a network's parameters (Loshchilov and Hutter 2019)."""
    return torch.optim.AdamW(
        net.parameters(),
        lr=recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        weight_decay=0.0,
    )


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine decay."""
    peak, low = recipe.optimizer.learning_rate, recipe.optimizer.final_fraction
    warm = min(1.0, (step + 1) / max(1, recipe.optimizer.warm_up))
    cosine = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    return peak * warm * (low + (1 - low) * cosine)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def descend(
    optimizer: torch.optim.Optimizer, net: nn.Module, loss: Tensor, clip_norm: float
) -> None:
    """Take one optimizer step on `loss`, with the global gradient norm clipped."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    distributed.average_gradients(net)
    nn.utils.clip_grad_norm_(net.parameters(), clip_norm)
    optimizer.step()


@torch.no_grad()
def average(ema: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Update the averaged weights (EMA) with the current ones."""
    # decay less at first: an average that remembers the initialization scores badly early
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(ema.parameters(), net.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
