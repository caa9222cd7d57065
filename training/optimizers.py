"""Optimizer, learning-rate schedule and weight averaging, shared by all objectives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from training import distributed
from training.recipe.schema import OptimizerRecipe, Recipe

ORTHOGONALIZATION_STEPS = 5
ORTHOGONALIZATION = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration (Jordan et al. 2024)."""
MUON_PEAK = 1e-2
"""Learning rate at which kernels are updated when the recipe's is `ADAMW_PEAK`."""
ADAMW_PEAK = 2e-3


class Muon(torch.optim.Optimizer):
    """Muon for kernels, AdamW without weight decay for biases and other vectors.

    A kernel's running mean of gradients, as a matrix of one row per output channel, is replaced by
    the nearest semi-orthogonal matrix, so that every direction is learned at the same speed
    (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon). `torch.optim.Muon` takes
    matrices only, and works in bfloat16, which many processors compute slowly.

    Args:
        parameters: all parameters of a network.
        lr: learning rate of the vectors; kernels get `MUON_PEAK / ADAMW_PEAK` times as much.
        momentum: decay of the kernels' running mean.
        betas: decays of AdamW's means.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "betas": betas})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient; `closure` is not supported."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    move = _move_kernel if parameter.dim() > 1 else _move_vector
                    move(parameter, parameter.grad, self.state[parameter], group)
        return None


def _move_kernel(
    kernel: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
) -> None:
    if not state:
        state["mean"] = torch.zeros_like(kernel)
    mean = state["mean"].lerp_(gradient, 1 - group["momentum"])
    update = orthogonalized(gradient.lerp(mean, group["momentum"]).flatten(1))
    rows, columns = update.shape
    rate = group["lr"] * MUON_PEAK / ADAMW_PEAK * max(1.0, rows / columns) ** 0.5
    kernel.sub_(update.reshape(kernel.shape), alpha=rate)


def _move_vector(
    vector: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
) -> None:
    if not state:
        state["step"] = torch.zeros(())
        state["mean"], state["square"] = torch.zeros_like(vector), torch.zeros_like(vector)
    state["step"] += 1
    (first, second), step = group["betas"], state["step"].item()
    mean = state["mean"].lerp_(gradient, 1 - first) / (1 - first**step)
    square = state["square"].lerp_(gradient.square(), 1 - second) / (1 - second**step)
    vector.addcdiv_(mean, square.sqrt_().add_(1e-8), value=-group["lr"])


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return roughly the semi-orthogonal matrix nearest to (R, C): singular values of 0.7 to 1.2.

    Five Newton-Schulz iterations in float32; zeros stay zeros.
    """
    a, b, c = ORTHOGONALIZATION
    x = matrix.float() if matrix.shape[0] <= matrix.shape[1] else matrix.float().T
    x = x / (x.norm() + 1e-7)
    for _ in range(ORTHOGONALIZATION_STEPS):
        product = x @ x.T
        x = a * x + (b * product + c * product @ product) @ x
    found: Tensor = x if matrix.shape[0] <= matrix.shape[1] else x.T
    return found


def build(net: nn.Module, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer for a network's parameters."""
    if recipe.kind == "muon":
        return Muon(
            net.parameters(), recipe.learning_rate, recipe.beta1, (recipe.beta1, recipe.beta2)
        )
    return adamw(net, recipe)


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
