"""The pixel stage: maximizes fidelity."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from training import checkpoint, networks, optimizers
from training.data import color
from training.data.pictures import Batch
from training.objectives.terms import Terms, values, weighted
from training.recipe.schema import Recipe


class Pixel:
    """Minimize E |G(x) - y|, the mean absolute error over pixels and channels, by default.

    L1's minimizer is the conditional median of y given x. On this task L1, Charbonnier and MSE give
    similar results; L1 is the usual choice since Lim et al. 2017 (EDSR, arXiv:1707.02921).
    The recipe can replace it by other terms that need no discriminator, or add them.

    Args:
        recipe: the settings of the run.
        network: replaces the recipe's network, for experiments (`training.bodies`).
    """

    def __init__(self, recipe: Recipe, network: nn.Module | None = None) -> None:
        net = networks.build(recipe.network, recipe.scale) if network is None else network
        net.bf16 = recipe.bf16  # type: ignore[assignment]
        self.network = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._recipe = recipe
        self._terms = Terms(recipe)
        self._optimizer = optimizers.build(self.network, recipe.optimizer)

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step on (N, 3, P, P) and (N, 3, P * scale, P * scale)."""
        optimizers.set_learning_rate(self._optimizer, optimizers.learning_rate(self._recipe, step))
        if self._recipe.network.colors == 1:
            batch = _luma(batch)
        terms = self._terms(self.network(batch.lr), batch)
        loss = weighted(terms, self._recipe)
        optimizers.descend(self._optimizer, self.network, loss, self._recipe.optimizer.clip_norm)
        return {"loss": loss.item(), **(values(terms) if len(terms) > 1 else {})}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimizer state."""
        return {
            **checkpoint.prefixed("net", self.network.state_dict()),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(self._optimizer)),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned."""
        self.network.load_state_dict(checkpoint.without_prefix("net", tensors))
        checkpoint.restore_optimizer(
            self._optimizer, checkpoint.without_prefix("optimizer", tensors)
        )


def _luma(batch: Batch) -> Batch:
    """Return the luma of a batch, (N, 1, H, W); the input in 256 levels, as in a file."""
    made = {k: color.luma(v) for k, v in vars(batch).items() if isinstance(v, Tensor)}
    made["lr"] = (made["lr"] * 255.0).round() / 255.0
    return dataclasses.replace(batch, **made)
