"""The conditional VAE's objective: the evidence lower bound and L1 at the prior's mean."""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import checkpoint, optimizers
from training.data.pictures import Batch
from training.networks.layers import bf16_if
from training.networks.vae import ConditionalVae, Posterior
from training.recipe.schema import Recipe

log = logging.getLogger(__name__)

ACTIVE_VARIANCE = 0.01


class Elbo:
    """Maximize ln p(y | x) >= E_q(z|x,y)[ln p(y | x, z)] - KL(q(z | x, y) || p(z | x)).

    Both terms are sums over the dimensions of one picture and means over the batch, as the bound
    requires; a mean over pixels next to a sum over latents would set beta implicitly. The bound is
    then divided by D, the number of samples of y, which does not move the minimum.

    - p(y | x, z) is a Laplace distribution of one global scale b, set to its maximum-likelihood
      value, the mean absolute error of the batch (sigma-VAE: Rybkin et al. 2021,
      arXiv:2006.13202, there for Gaussians). A scale per pixel would absorb the variance that
      z should model. The loss is multiplied by b as a constant: its gradient is then that of an
      L1, and the learning rate of the pixel stage still fits.
    - The prior is learned (Sohn, Lee and Yan 2015). KL is penalized per channel above `free_nats`
      (free bits: Kingma et al. 2016, arXiv:1606.04934), with a weight that rises from 0 to `beta`
      (Bowman et al. 2016, arXiv:1511.06349).
    - L1 is added at the prior's mean, which is the output for `eps = 0`.
    - The scale per pixel (the confidence) is learned from the error at the prior's mean, with
      gradients stopped at the mean and at the features: it does not affect the picture.

    `active` counts the channels of z whose posterior mean varies with the picture (variance of
    its distance from the prior's mean over 0.01, in units of the prior's variance; after Burda et
    al. 2016, arXiv:1509.00519). If no channel is active, the posterior has collapsed: a warning.
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
        self._optimizer = optimizers.build(self._both, recipe.optimizer)

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step on (N, 3, P, P) and (N, 3, P * scale, P * scale)."""
        optimizers.set_learning_rate(self._optimizer, optimizers.learning_rate(self._recipe, step))
        losses = self.losses(batch, self.kl_weight(step))
        optimizers.descend(
            self._optimizer, self._both, losses["loss"], self._recipe.optimizer.clip_norm
        )
        report = {name: value.item() for name, value in losses.items()}
        warm = step >= self._recipe.vae.kl_warm_up * self._recipe.steps
        log_now = step % 1000 == 0 or step == self._recipe.steps - 1
        if warm and report["active"] == 0 and log_now:
            log.warning("step %d: posterior collapse: no channel of z is active", step)
        return report

    def kl_weight(self, step: int) -> float:
        """Return the KL weight, which rises linearly from 0 to beta over the warm-up."""
        rise = self._recipe.vae.kl_warm_up * self._recipe.steps
        return self._recipe.vae.beta * min(1.0, step / rise if rise else 1.0)

    def losses(self, batch: Batch, kl_weight: float) -> dict[str, Tensor]:
        """Return `loss`, its terms, and `active`.

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
        penalty = free_bits(kl, recipe.free_nats).sum() / samples
        scale_nll = laplace_nll(mean_error.detach(), log_scale).mean()
        loss = b * (nll + kl_weight * penalty) + recipe.mean_weight * mean_error.mean()
        return {
            # 0.01: the gradient norm that is clipped includes the confidence head's
            "loss": loss + 0.01 * scale_nll,
            "nll": nll.detach(),
            "kl": kl.mean(0).sum().detach() / samples,
            "l1": mean_error.mean().detach(),
            "scale_nll": scale_nll.detach(),
            "active": active_units(posterior[0], prior),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, including the posterior's, and optimizer state."""
        return {
            **checkpoint.prefixed("both", self._both.state_dict()),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(self._optimizer)),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned."""
        self._both.load_state_dict(checkpoint.without_prefix("both", tensors))
        checkpoint.restore_optimizer(
            self._optimizer, checkpoint.without_prefix("optimizer", tensors)
        )


Moments = tuple[Tensor, Tensor]
"""Mean and log-variance of diagonal Gaussians, each (N, K, ...)."""


def gaussian_kl(q: Moments, p: Moments) -> Tensor:
    """Return KL(q || p) in nats, elementwise.

    1/2 (ln(sp^2 / sq^2) + (sq^2 + (mq - mp)^2) / sp^2 - 1).
    """
    (mean_q, log_q), (mean_p, log_p) = q, p
    distance = (mean_q - mean_p).square() * torch.exp(-log_p)
    return 0.5 * (log_p - log_q + torch.exp(log_q - log_p) + distance - 1)


def free_bits(kl: Tensor, free_nats: float) -> Tensor:
    """Return the penalized KL per channel, (K,): summed over positions, mean over the batch.

    A channel whose mean per position is below `free_nats` counts as `free_nats`, so that no
    gradient pushes it further towards the prior.

    Args:
        kl: (N, K, ...), nats.
        free_nats: nats per channel and position that are not penalized.
    """
    flat = kl.flatten(2)  # (N, K, positions)
    return flat.mean(dim=(0, 2)).clamp(min=free_nats) * flat.shape[2]


def laplace_nll(error: Tensor, log_scale: Tensor) -> Tensor:
    """Return -ln of the Laplace density, ln(2 b) + |error| / b, elementwise (0.693 is ln 2)."""
    return log_scale + error * torch.exp(-log_scale) + 0.6931471805599453


@torch.no_grad()
def active_units(mean_q: Tensor, p: Moments) -> Tensor:
    """Count the channels whose posterior mean varies with the picture."""
    moved = (mean_q - p[0]) * torch.exp(-0.5 * p[1])
    variance = moved.transpose(0, 1).flatten(1).var(dim=1)
    return (variance > ACTIVE_VARIANCE).sum().float()
