"""Objectives of the textbook models for small pictures: autoencoder, VAE and GAN."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import checkpoint, optimizers
from training.data.pictures import Batch
from training.networks import small
from training.objectives.vae import active_units, gaussian_kl
from training.recipe.schema import Recipe

GRAY = 0.5


class _OneOptimizer:
    """Shared base of the autoencoder and the VAE: one network, one optimizer, one loss."""

    def __init__(self, recipe: Recipe) -> None:
        self._net = small.build(recipe.family, recipe.small, recipe.data.patch_px)
        self.network: nn.Module = self._net
        self._recipe = recipe
        self._optimizer = optimizers.adamw(self.network, recipe.optimizer)

    def losses(self, picture: Tensor) -> dict[str, Tensor]:
        """Return `loss` and its terms for pictures, (N, 3, S, S)."""
        raise NotImplementedError

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step on the (N, 3, S, S) pictures of `batch.hr`."""
        optimizers.set_learning_rate(self._optimizer, optimizers.learning_rate(self._recipe, step))
        losses = self.losses(batch.hr)
        clip_norm = self._recipe.optimizer.clip_norm
        optimizers.descend(self._optimizer, self.network, losses["loss"], clip_norm)
        return {name: value.item() for name, value in losses.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimizer state."""
        return _tensors("net", self.network, self._optimizer)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned."""
        _restore("net", self.network, self._optimizer, tensors)


class Flat(_OneOptimizer):
    """Minimize E ||x - g(f(x'))||^2 per sample; x' is x, optionally with a masked rectangle.

    Hinton and Salakhutdinov 2006; with the mask it learns to complete pictures (context
    encoders: Pathak et al. 2016, arXiv:1604.07379, without their adversarial term).
    """

    def losses(self, picture: Tensor) -> dict[str, Tensor]:
        """Return `loss`, the mean squared error."""
        hidden = hide(picture, self._recipe.small.mask)
        return {"loss": F.mse_loss(self.network(hidden), picture)}


class GaussianElbo(_OneOptimizer):
    """Maximize E_q(z|x)[ln N(x; g(z), s^2)] - beta KL(q(z | x) || N(0, 1)).

    Summed over dimensions, averaged over the batch, divided by D. s^2 is its maximum-likelihood
    value, the mean squared error of the batch (sigma-VAE: Rybkin et al. 2021, arXiv:2006.13202):
    with a fixed s^2, a mean-reduced error next to a summed KL would set beta implicitly.
    """

    def losses(self, picture: Tensor) -> dict[str, Tensor]:
        """Return `loss`; `nll` and `kl` in nats per sample of the picture; `mse`; `active`."""
        assert isinstance(self._net, small.FlatVae)
        mean, log_variance = self._net.moments(picture)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        mse = F.mse_loss(self._net.decoder(z), picture)
        variance = mse.detach()
        nll = 0.5 * (torch.log(2 * math.pi * variance) + mse / variance)
        prior = (torch.zeros_like(mean), torch.zeros_like(mean))
        kl = gaussian_kl((mean, log_variance), prior).sum(dim=1).mean() / picture[0].numel()
        return {
            "loss": nll + self._recipe.small.beta * kl,
            "nll": nll.detach(),
            "kl": kl.detach(),
            "mse": variance,
            "active": active_units(mean, prior),
        }


class SmallGan:
    """Train the generative adversarial network (Goodfellow et al. 2014, arXiv:1406.2661).

    min_G max_D E[ln D(x)] + E[ln(1 - D(G(z)))], z standard normal. D minimizes
    BCE(D(x), 1) + BCE(D(G(z)), 0) on a detached G(z); G minimizes the non-saturating form
    -E[ln D(G(z))] = BCE(D(G(z)), 1). D returns logits. A step updates each once.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._generator = small.Decoder(recipe.small, recipe.data.patch_px)
        self.network: nn.Module = self._generator
        self._discriminator = small.Discriminator(recipe.small, recipe.data.patch_px)
        self._recipe = recipe
        self._optimizers = (
            optimizers.adamw(self.network, recipe.optimizer),
            optimizers.adamw(self._discriminator, recipe.optimizer),
        )

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step of D, then one of G, on the (N, 3, S, S) pictures of `batch.hr`."""
        rate = optimizers.learning_rate(self._recipe, step)
        clip_norm = self._recipe.optimizer.clip_norm
        for optimizer in self._optimizers:
            optimizers.set_learning_rate(optimizer, rate)
        z = torch.randn(len(batch.hr), self._generator.latent, device=batch.hr.device)
        fake = self._generator(z)
        d_loss = discriminator_loss(
            self._discriminator(batch.hr), self._discriminator(fake.detach())
        )
        optimizers.descend(self._optimizers[1], self._discriminator, d_loss, clip_norm)
        self._discriminator.requires_grad_(False)
        g_loss = generator_loss(self._discriminator(fake))
        optimizers.descend(self._optimizers[0], self.network, g_loss, clip_norm)
        self._discriminator.requires_grad_(True)
        return {"loss": g_loss.item(), "discriminator": d_loss.item()}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimizer states of both networks."""
        return {
            **_tensors("net", self.network, self._optimizers[0]),
            **_tensors("discriminator", self._discriminator, self._optimizers[1]),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned."""
        _restore("net", self.network, self._optimizers[0], tensors)
        _restore("discriminator", self._discriminator, self._optimizers[1], tensors)


def build(recipe: Recipe) -> Flat | GaussianElbo | SmallGan:
    """Return the objective of the recipe's family."""
    if recipe.family == "ae":
        return Flat(recipe)
    if recipe.family == "vae":
        return GaussianElbo(recipe)
    return SmallGan(recipe)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return BCE(D(x), 1) + BCE(D(G(z)), 0) on logits, means over the batch."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Return BCE(D(G(z)), 1) on logits, the non-saturating form, mean over the batch."""
    return F.softplus(-fake).mean()


def hide(picture: Tensor, largest: float) -> Tensor:
    """Mask a gray rectangle of each (N, 3, S, S) picture, sides uniform in 0..largest * S."""
    if largest == 0:
        return picture
    count, _, height, width = picture.shape
    device = picture.device
    corner = torch.rand(count, 4, device=device)
    sides = corner[:, :2] * largest
    begin = corner[:, 2:] * (1 - sides)
    y = torch.arange(height, device=device) / height
    x = torch.arange(width, device=device) / width
    rows = (y >= begin[:, :1]) & (y < begin[:, :1] + sides[:, :1])
    columns = (x >= begin[:, 1:]) & (x < begin[:, 1:] + sides[:, 1:])
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], GRAY, picture)


def _tensors(name: str, net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        **checkpoint.prefixed(name, net.state_dict()),
        **checkpoint.prefixed(f"{name}_optimizer", checkpoint.optimizer_tensors(optimizer)),
    }


def _restore(
    name: str, net: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    net.load_state_dict(checkpoint.without_prefix(name, tensors))
    state = checkpoint.without_prefix(f"{name}_optimizer", tensors)
    checkpoint.restore_optimizer(optimizer, state)
