"""The objectives of the textbook forms on small pictures."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import checkpoint, optim
from training.data import Batch
from training.networks import small
from training.objectives.vae import active_units, gaussian_kl
from training.recipe import Recipe

GREY = 0.5


class _OneOptimiser:
    """What the autoencoder and the VAE share: one network, one optimiser, one loss."""

    def __init__(self, recipe: Recipe) -> None:
        self._net = small.build(recipe.family, recipe.small, recipe.data.patch_px)
        self.network: nn.Module = self._net
        self._recipe = recipe
        self._optimiser = optim.adamw(self.network, recipe.optimiser)

    def losses(self, picture: Tensor) -> dict[str, Tensor]:
        """Return `loss` and what it is made of, of (N, 3, S, S)."""
        raise NotImplementedError

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step on (N, 3, S, S) pictures, those of `batch.hr`."""
        optim.set_learning_rate(self._optimiser, optim.learning_rate(self._recipe, step))
        losses = self.losses(batch.hr)
        clip_norm = self._recipe.optimiser.clip_norm
        optim.descend(self._optimiser, self.network, losses["loss"], clip_norm)
        return {name: value.item() for name, value in losses.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimiser state."""
        return _tensors("net", self.network, self._optimiser)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put them back."""
        _restore("net", self.network, self._optimiser, tensors)


class Flat(_OneOptimiser):
    """Minimise E ||x - g(f(x'))||^2 per sample, x' being x with a rectangle hidden (or not).

    Hinton and Salakhutdinov 2006; with the rectangle it learns to complete pictures (context
    encoders: Pathak et al. 2016, arXiv:1604.07379, without their adversarial term).
    """

    def losses(self, picture: Tensor) -> dict[str, Tensor]:
        """Return `loss`, the mean squared error."""
        hidden = hide(picture, self._recipe.small.mask)
        return {"loss": F.mse_loss(self.network(hidden), picture)}


class GaussianElbo(_OneOptimiser):
    """Maximise E_q(z|x)[ln N(x; g(z), s^2)] - beta KL(q(z | x) || N(0, 1)).

    Summed over dimensions, averaged over the batch, divided by D. s^2 is its maximum-likelihood
    value, the mean squared error of the batch (sigma-VAE: Rybkin et al. 2021, arXiv:2006.13202):
    with a fixed s^2 a mean-reduced error beside a summed KL sets beta in silence.
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


class FromNoise:
    """The generative adversarial network (Goodfellow et al. 2014, arXiv:1406.2661).

    min_G max_D E[ln D(x)] + E[ln(1 - D(G(z)))], z standard normal. D minimises
    BCE(D(x), 1) + BCE(D(G(z)), 0) on a detached G(z); G minimises the non-saturating form
    -E[ln D(G(z))] = BCE(D(G(z)), 1). D is on logits. One step of each.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._generator = small.Decoder(recipe.small, recipe.data.patch_px)
        self.network: nn.Module = self._generator
        self._judge = small.Discriminator(recipe.small, recipe.data.patch_px)
        self._recipe = recipe
        self._optimisers = (
            optim.adamw(self.network, recipe.optimiser),
            optim.adamw(self._judge, recipe.optimiser),
        )

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step of D, then one of G, on the (N, 3, S, S) pictures of `batch.hr`."""
        rate = optim.learning_rate(self._recipe, step)
        clip_norm = self._recipe.optimiser.clip_norm
        for optimiser in self._optimisers:
            optim.set_learning_rate(optimiser, rate)
        z = torch.randn(len(batch.hr), self._generator.latent, device=batch.hr.device)
        fake = self._generator(z)
        judged = judge_loss(self._judge(batch.hr), self._judge(fake.detach()))
        optim.descend(self._optimisers[1], self._judge, judged, clip_norm)
        self._judge.requires_grad_(False)
        made = generator_loss(self._judge(fake))
        optim.descend(self._optimisers[0], self.network, made, clip_norm)
        self._judge.requires_grad_(True)
        return {"loss": made.item(), "judge": judged.item()}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and optimiser state of both."""
        return {
            **_tensors("net", self.network, self._optimisers[0]),
            **_tensors("judge", self._judge, self._optimisers[1]),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put them back."""
        _restore("net", self.network, self._optimisers[0], tensors)
        _restore("judge", self._judge, self._optimisers[1], tensors)


def build(recipe: Recipe) -> Flat | GaussianElbo | FromNoise:
    """Return the objective of the recipe's family."""
    if recipe.family == "ae":
        return Flat(recipe)
    if recipe.family == "vae":
        return GaussianElbo(recipe)
    return FromNoise(recipe)


def judge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """BCE(D(x), 1) + BCE(D(G(z)), 0) on logits, means over the batch."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """BCE(D(G(z)), 1) on logits, the non-saturating form, mean over the batch."""
    return F.softplus(-fake).mean()


def hide(picture: Tensor, largest: float) -> Tensor:
    """Return (N, 3, S, S) with a grey rectangle in each, its sides uniform in 0..largest * S."""
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
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], GREY, picture)


def _tensors(name: str, net: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        **checkpoint.prefixed(name, net.state_dict()),
        **checkpoint.prefixed(f"{name}_optimiser", checkpoint.optimiser_tensors(optimiser)),
    }


def _restore(
    name: str, net: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    net.load_state_dict(checkpoint.without_prefix(name, tensors))
    state = checkpoint.without_prefix(f"{name}_optimiser", tensors)
    checkpoint.restore_optimiser(optimiser, state)
