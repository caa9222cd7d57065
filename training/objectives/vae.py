"""The conditional VAE's objective: the evidence lower bound, and the mean that is shipped."""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import checkpoint, optim
from training.data import Batch
from training.networks.layers import bf16_if
from training.networks.vae import ConditionalVae, Posterior
from training.recipe import Recipe

log = logging.getLogger(__name__)

ACTIVE_VARIANCE = 0.01


class Elbo:
    """Maximise ln p(y | x) >= E_q(z|x,y)[ln p(y | x, z)] - KL(q(z | x, y) || p(z | x)).

    Both terms are sums over the dimensions of one picture and means over the batch, as the bound
    demands; a mean over pixels beside a sum over latents would set beta in silence. The bound is
    then divided by D, the number of samples of y, which moves no minimum.

    - p(y | x, z) is a Laplace distribution of one global scale b, set to its maximum-likelihood
      value, the mean absolute error of the batch (sigma-VAE: Rybkin et al. 2021,
      arXiv:2006.13202, there for Gaussians). A scale per pixel would eat the variance that z is
      for. The loss is multiplied by b as a number: its gradient is then that of an L1, and the
      learning rate of the pixel stage holds.
    - The prior is learned (Sohn, Lee and Yan 2015). KL is charged per channel above `free_nats`
      (free bits: Kingma et al. 2016, arXiv:1606.04934), with a weight that rises from 0 to `beta`
      (Bowman et al. 2016, arXiv:1511.06349).
    - L1 at the prior's mean, which is the picture that `eps = 0` gives.
    - The scale per pixel (the confidence) is learned on the error at the prior's mean, with
      stopped gradients on the mean and on the features: it explains, it does not change.

    `active` counts the channels of z whose posterior mean moves with the picture (variance of
    its distance from the prior's mean over 0.01, in units of the prior's variance; after Burda et
    al. 2016, arXiv:1509.00519). None active is posterior collapse: a warning.
    """

    def __init__(self, recipe: Recipe) -> None:
        net = ConditionalVae(recipe.network, recipe.vae, recipe.scale)
        net.bf16 = recipe.bf16
        posterior = Posterior(recipe.network, recipe.vae, recipe.scale)
        both = nn.ModuleDict({"net": net, "posterior": posterior})
        self._both = both.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network: nn.Module = net
        self._net = net
        self._posterior = posterior
        self._recipe = recipe
        self._optimiser = optim.adamw(self._both, recipe.optimiser)

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step on (N, 3, P, P) and (N, 3, P * scale, P * scale)."""
        optim.set_learning_rate(self._optimiser, optim.learning_rate(self._recipe, step))
        losses = self.losses(batch, self.kl_weight(step))
        optim.descend(self._optimiser, self._both, losses["loss"], self._recipe.optimiser.clip_norm)
        report = {name: value.item() for name, value in losses.items()}
        warm = step >= self._recipe.vae.kl_warm_up * self._recipe.steps
        told = step % 1000 == 0 or step == self._recipe.steps - 1
        if warm and report["active"] == 0 and told:
            log.warning("step %d: posterior collapse: no channel of z is active", step)
        return report

    def kl_weight(self, step: int) -> float:
        """Return beta, risen linearly from 0 over the warm-up."""
        rise = self._recipe.vae.kl_warm_up * self._recipe.steps
        return self._recipe.vae.beta * min(1.0, step / rise if rise else 1.0)

    def losses(self, batch: Batch, kl_weight: float) -> dict[str, Tensor]:
        """Return `loss` and what it is made of, and `active`.

        `nll` and `kl` are in nats per sample of y, the rest in the unit of the pictures (0..1).
        """
        net, recipe = self._net, self._recipe.vae
        enlarged = F.interpolate(batch.lr, scale_factor=net.scale)
        with bf16_if(net.bf16, batch.lr):
            h = net.encode(batch.lr)
            prior = net.prior_of(h)
            posterior = self._posterior(batch.hr - enlarged, h)
            z = posterior[0] + torch.exp(0.5 * posterior[1]) * torch.randn_like(posterior[0])
            sampled, at_mean = net.decode(h, z), net.decode(h, prior[0])
            log_scale = net.log_scale(at_mean.detach()).float()
        error = (batch.hr - net.picture(batch.lr, sampled)).abs()
        mean_error = (batch.hr - net.picture(batch.lr, at_mean)).abs()
        b = error.mean().detach()
        nll = torch.log(2 * b) + error.mean() / b
        kl = gaussian_kl(posterior, prior)
        samples = batch.hr[0].numel()
        charged = free_bits(kl, recipe.free_nats).sum() / samples
        scale_nll = laplace_nll(mean_error.detach(), log_scale).mean()
        loss = b * (nll + kl_weight * charged) + recipe.mean_weight * mean_error.mean()
        return {
            # 0.01: the head's own gradient shares the norm that is clipped
            "loss": loss + 0.01 * scale_nll,
            "nll": nll.detach(),
            "kl": kl.mean(0).sum().detach() / samples,
            "l1": mean_error.mean().detach(),
            "scale_nll": scale_nll.detach(),
            "active": active_units(posterior[0], prior),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return weights (of the posterior too) and optimiser state."""
        return {
            **checkpoint.prefixed("both", self._both.state_dict()),
            **checkpoint.prefixed("optimiser", checkpoint.optimiser_tensors(self._optimiser)),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put them back."""
        self._both.load_state_dict(checkpoint.without_prefix("both", tensors))
        checkpoint.restore_optimiser(
            self._optimiser, checkpoint.without_prefix("optimiser", tensors)
        )


Moments = tuple[Tensor, Tensor]
"""Mean and log-variance of diagonal Gaussians, each (N, K, ...)."""


def gaussian_kl(q: Moments, p: Moments) -> Tensor:
    """KL(q || p) in nats, element by element.

    1/2 (ln(sp^2 / sq^2) + (sq^2 + (mq - mp)^2) / sp^2 - 1).
    """
    (mean_q, log_q), (mean_p, log_p) = q, p
    distance = (mean_q - mean_p).square() * torch.exp(-log_p)
    return 0.5 * (log_p - log_q + torch.exp(log_q - log_p) + distance - 1)


def free_bits(kl: Tensor, free_nats: float) -> Tensor:
    """Return the KL that is charged per channel, (K,): summed over positions, mean over the batch.

    A channel whose mean per position is below `free_nats` is charged as if it were there: no
    gradient pushes it further towards the prior.

    Args:
        kl: (N, K, ...), nats.
        free_nats: per channel and position.
    """
    flat = kl.flatten(2)  # (N, K, positions)
    return flat.mean(dim=(0, 2)).clamp(min=free_nats) * flat.shape[2]


def laplace_nll(error: Tensor, log_scale: Tensor) -> Tensor:
    """-ln of Laplace's density, ln(2 b) + |error| / b, element by element (0.693 is ln 2)."""
    return log_scale + error * torch.exp(-log_scale) + 0.6931471805599453


@torch.no_grad()
def active_units(mean_q: Tensor, p: Moments) -> Tensor:
    """Count the channels in which the posterior's mean moves with the picture."""
    moved = (mean_q - p[0]) * torch.exp(-0.5 * p[1])
    variance = moved.transpose(0, 1).flatten(1).var(dim=1)
    return (variance > ACTIVE_VARIANCE).sum().float()
