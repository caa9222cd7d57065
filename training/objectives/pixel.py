"""The pixel loss: the stage that maximises fidelity."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training import checkpoint, networks, optim
from training.data import Batch
from training.objectives.terms import Terms, values, weighted
from training.recipe import Recipe


class Pixel:
    """Minimise E |G(x) - y|, the mean absolute error over pixels and channels, by default.

    L1's minimiser is the conditional median of y given x. On this task L1, Charbonnier and MSE end
    alike; L1 is the usual choice since Lim et al. 2017 (EDSR, arXiv:1707.02921).
    Any of the recipe's terms that need no discriminator may replace or join it.

    Args:
        recipe: what to do.
        network: another one than the recipe's, for experiments (`training.bodies`).
    """

    def __init__(self, recipe: Recipe, network: nn.Module | None = None) -> None:
        net = networks.build(recipe.network, recipe.scale) if network is None else network
        net.bf16 = recipe.bf16  # type: ignore[assignment]
        self.network = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._recipe = recipe
        self._terms = Terms(recipe)
        self._optimiser = optim.adamw(self.network, recipe.optimiser)

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step on (N, 3, P, P) and (N, 3, P * scale, P * scale)."""
        optim.set_learning_rate(self._optimiser, optim.learning_rate(self._recipe, step))
        terms = self._terms(self.network(batch.lr), batch)
        loss = weighted(terms, self._recipe)
        optim.descend(self._optimiser, self.network, loss, self._recipe.optimiser.clip_norm)
        return {"loss": loss.item(), **(values(terms) if len(terms) > 1 else {})}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimiser state."""
        return {
            **checkpoint.prefixed("net", self.network.state_dict()),
            **checkpoint.prefixed("optimiser", checkpoint.optimiser_tensors(self._optimiser)),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put them back."""
        self.network.load_state_dict(checkpoint.without_prefix("net", tensors))
        checkpoint.restore_optimiser(
            self._optimiser, checkpoint.without_prefix("optimiser", tensors)
        )
