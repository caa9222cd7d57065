"""Unpaired training: super-resolution for a camera's own low-resolution pictures."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import checkpoint, networks, optimizers
from training.data.pictures import Batch
from training.recipe.data import UnpairedRecipe
from training.recipe.schema import OptimizerRecipe, Recipe


class Degrader(nn.Module):
    """Makes a low-resolution picture from a high-resolution one: bicubic plus a learned residual.

    `H(y, n) = bicubic(y) + r(unshuffle(y), n)` with Gaussian noise n, one channel, from which it
    can make grain. The last layer starts at zero, so that H starts as bicubic.
    """

    def __init__(self, scale: int, width: int, depth: int) -> None:
        super().__init__()
        self.scale = scale
        widths = [3 * scale**2 + 1, *[width] * (depth + 1)]
        convs = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
        self.body = nn.ModuleList(convs)
        self.tail = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    def forward(self, hr: Tensor, noise: Tensor) -> Tensor:
        """Reduce (N, 3, H, W), 0..1, with noise (N, 1, H / scale, W / scale)."""
        x = torch.cat([F.pixel_unshuffle(hr, self.scale), noise], dim=1)
        for conv in self.body:
            x = F.relu(conv(x))
        residual: Tensor = self.tail(x)
        return bicubic(hr, self.scale) + residual


class DomainDiscriminator(nn.Module):
    """Distinguishes real from generated low-resolution patches by their Haar detail bands.

    Without the low band the two sets may show different scenes: the remaining differences are
    noise, sharpness and artifacts (the frequency separation of Fritsche et al. 2019,
    arXiv:1911.07850).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(9, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, padding=1),
        )

    def forward(self, lr: Tensor) -> Tensor:
        """Return logits, one per 2x2 pixels, of (N, 3, H, W)."""
        logits: Tensor = self.layers(details(lr))
        return logits


class Unpaired:
    """Learn the domain's degradation H, and super-resolution G on the outputs of H.

    With y high-resolution, x real low-resolution, B a box filter and D the domain discriminator:

        D:  E softplus(-D(x)) + E softplus(D(H(y)))
        H:  content * E |B H(y) - B bicubic(y)| + domain * E softplus(-D(H(y)))
        G:  E |G(q(H(y))) - y|, H held fixed, q rounding to 8 bits

    After Wei et al. 2021 (DASR, arXiv:2004.01178), without its domain-distance weights: G sees only
    generated pictures, so the remaining gap between H(y) and x limits it.
    """

    def __init__(self, recipe: Recipe) -> None:
        unpaired = recipe.unpaired
        net = networks.build(recipe.network, recipe.scale)
        net.bf16 = recipe.bf16
        self.network = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.degrader = Degrader(recipe.scale, unpaired.degrader_width, unpaired.degrader_depth)
        self.discriminator = DomainDiscriminator(unpaired.discriminator_width)
        self._recipe = recipe
        self._optimizers = {
            "network": optimizers.adamw(self.network, recipe.optimizer),
            "degrader": optimizers.adamw(self.degrader, _optimizer_recipe(unpaired)),
            "discriminator": optimizers.adamw(self.discriminator, _optimizer_recipe(unpaired)),
        }

    def step(self, batch: Batch, step: int) -> dict[str, float]:
        """Do one step of each network on unpaired (N, 3, P, P) and (N, 3, P * s, P * s)."""
        noise = torch.randn_like(batch.lr[:, :1])
        made = self.degrader(batch.hr, noise)
        return {
            "loss": self._super_resolve(made.detach(), batch.hr, step),
            "discriminator": self._discriminator_step(batch.lr, made.detach()),
            "degrader": self._degrade(made, batch.hr),
        }

    def _super_resolve(self, made: Tensor, hr: Tensor, step: int) -> float:
        optimizer = self._optimizers["network"]
        optimizers.set_learning_rate(optimizer, optimizers.learning_rate(self._recipe, step))
        loss = F.l1_loss(self.network((made.clamp(0, 1) * 255).round() / 255), hr)
        optimizers.descend(optimizer, self.network, loss, self._recipe.optimizer.clip_norm)
        return loss.item()

    def _discriminator_step(self, real: Tensor, made: Tensor) -> float:
        loss = (
            F.softplus(-self.discriminator(real)).mean()
            + F.softplus(self.discriminator(made)).mean()
        )
        clip_norm = self._recipe.optimizer.clip_norm
        optimizers.descend(self._optimizers["discriminator"], self.discriminator, loss, clip_norm)
        return loss.item()

    def _degrade(self, made: Tensor, hr: Tensor) -> float:
        unpaired = self._recipe.unpaired
        base = bicubic(hr, self._recipe.scale)
        content = F.l1_loss(_low(made, unpaired.content_px), _low(base, unpaired.content_px))
        loss = (
            unpaired.content * content
            + unpaired.domain * F.softplus(-self.discriminator(made)).mean()
        )
        clip_norm = self._recipe.optimizer.clip_norm
        optimizers.descend(self._optimizers["degrader"], self.degrader, loss, clip_norm)
        return loss.item()

    def _networks(self) -> Iterator[tuple[str, nn.Module]]:
        yield "network", self.network
        yield "degrader", self.degrader
        yield "discriminator", self.discriminator

    def tensors(self) -> dict[str, Tensor]:
        """Return all weights and optimizer states."""
        found: dict[str, Tensor] = {}
        for name, net in self._networks():
            state = checkpoint.optimizer_tensors(self._optimizers[name])
            found |= checkpoint.prefixed(name, net.state_dict())
            found |= checkpoint.prefixed(f"optimizer_{name}", state)
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` returned."""
        for name, net in self._networks():
            state = checkpoint.without_prefix(f"optimizer_{name}", tensors)
            net.load_state_dict(checkpoint.without_prefix(name, tensors))
            checkpoint.restore_optimizer(self._optimizers[name], state)


def bicubic(hr: Tensor, scale: int) -> Tensor:
    """Reduce with torch's antialiased bicubic: within one level of MATLAB's, and differentiable."""
    return F.interpolate(hr, scale_factor=1 / scale, mode="bicubic", antialias=True)


def details(x: Tensor) -> Tensor:
    """Return the undecimated Haar bands LH, HL, HH of (N, C, H, W) as (N, 3 C, H - 1, W - 1)."""
    above, below = x[..., :-1, :], x[..., 1:, :]
    low, high = (above + below) / 2, (above - below) / 2
    bands = [
        (low[..., :-1] - low[..., 1:]) / 2,
        (high[..., :-1] + high[..., 1:]) / 2,
        (high[..., :-1] - high[..., 1:]) / 2,
    ]
    return torch.cat(bands, dim=1)


def _low(x: Tensor, side_px: int) -> Tensor:
    return F.avg_pool2d(x, side_px, stride=1)


def _optimizer_recipe(recipe: UnpairedRecipe) -> OptimizerRecipe:
    # beta1 = 0.5 is customary in adversarial training (arXiv:1511.06434)
    return OptimizerRecipe(learning_rate=recipe.learning_rate, beta1=0.5)
