"""The conditional variational autoencoder: a distribution of pictures for one input."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.layers import bf16_if, conv3, load_exactly, repeat_kernel, set_identity
from training.recipe.families import VaeRecipe
from training.recipe.schema import NetworkRecipe

CONFIDENT_WITHIN = 8 / 255
"""The confidence of a pixel is the probability that its error is at most this."""

LOG_SCALE = (-7.0, 0.0)
LOG_VARIANCE = (-8.0, 4.0)


class ConditionalVae(nn.Module):
    """p(z | x) and p(y | x, z) for an input x, an output y and a latent z at x's resolution.

    Trunk (the plain net's) -> h; prior head h -> mean and log-variance of z; decoder (h, z) ->
    the residual over the nearest-neighbor anchor and the logarithm of the error's scale, through
    one PixelShuffle (Sohn, Lee and Yan 2015, "Learning Structured Output Representation using Deep
    Conditional Generative Models"). The noise is an input, so that the graph is deterministic.

    `bf16 = True` runs the convolutions under bfloat16 autocast while it is in training mode.
    """

    anchor: Tensor
    multiple_px = 1
    """Accepts pictures of any size."""

    def __init__(self, network: NetworkRecipe, recipe: VaeRecipe, scale: int) -> None:
        super().__init__()
        width = network.width
        self.scale = scale
        self.latent = recipe.latent
        self.bf16 = False
        self.trunk = nn.ModuleList(
            [conv3(3, width), *(conv3(width, width) for _ in range(network.depth))]
        )
        self.prior = conv3(width, 2 * recipe.latent, noise=0.03, identity=False)
        self.decoder = nn.ModuleList(
            [
                conv3(width + recipe.latent, width),
                *(conv3(width, width) for _ in range(recipe.decoder_depth)),
            ]
        )
        self.tail = conv3(width, 3 * scale**2, noise=0.1, identity=False)
        self.scale_body = conv3(width, width)
        self.scale_tail = conv3(width, scale**2, noise=0.1, identity=False)
        assert self.scale_tail.bias is not None
        nn.init.constant_(self.scale_tail.bias, math.log(0.03))
        self.register_buffer("anchor", repeat_kernel(3, scale), persistent=False)

    def forward(self, lr: Tensor, eps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Upscale a batch: the mean where `eps` is 0, a sample where it is standard normal noise.

        Args:
            lr: (N, 3, H, W), float, 0..1.
            eps: (N, latent, H, W), float; scale it by 0..1 for samples closer to the mean. None: 0.

        Returns:
            The picture, (N, 3, H * scale, W * scale), not clipped, and the confidence,
            (N, 1, H * scale, W * scale): the probability that the picture is within
            `CONFIDENT_WITHIN` of the truth, 0..1.
        """
        with bf16_if(self.bf16 and self.training, lr):
            h = self.encode(lr)
            mean, log_variance = self.prior_of(h)
            z = mean if eps is None else mean + torch.exp(0.5 * log_variance) * eps
            features = self.decode(h, z)
            log_scale = self.log_scale(features)
        return self.picture(lr, features), confidence(log_scale.float())

    def encode(self, lr: Tensor) -> Tensor:
        """Return h, (N, width, H, W), non-negative."""
        h = lr
        for conv in self.trunk:
            h = F.relu(conv(h))
        return h

    def prior_of(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of p(z | x), each (N, latent, H, W), float32."""
        return split_moments(self.prior(h))

    def decode(self, h: Tensor, z: Tensor) -> Tensor:
        """Return the decoder's features, (N, width, H, W), non-negative."""
        x = torch.cat([h, z.to(h.dtype)], dim=1)
        for conv in self.decoder:
            x = F.relu(conv(x))
        return x

    def picture(self, lr: Tensor, features: Tensor) -> Tensor:
        """Return the mean of p(y | x, z), (N, 3, H * scale, W * scale)."""
        with bf16_if(self.bf16 and self.training, lr):
            residual = self.tail(features)
        # outside autocast: bf16 has 8 bits, no more than a picture
        return F.pixel_shuffle(F.conv2d(lr, self.anchor) + residual.to(lr.dtype), self.scale)

    def log_scale(self, features: Tensor) -> Tensor:
        """Return ln b of the error's Laplace distribution, (N, 1, H * scale, W * scale)."""
        x = self.scale_tail(F.relu(self.scale_body(features)))
        return torch.clamp(F.pixel_shuffle(x, self.scale), *LOG_SCALE)


class Posterior(nn.Module):
    """q(z | x, y), used in training only; its inputs are the truth minus the anchor, and h."""

    def __init__(self, network: NetworkRecipe, recipe: VaeRecipe, scale: int) -> None:
        super().__init__()
        self.scale = scale
        width = recipe.posterior_width
        self.body = nn.Sequential(
            conv3(3 * scale**2 + network.width, width, noise=1.0, identity=False),
            nn.ReLU(),
            conv3(width, width),
            nn.ReLU(),
            conv3(width, 2 * recipe.latent, identity=False),
        )

    def forward(self, residual: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (N, latent, H, W), float32.

        Args:
            residual: y minus the enlarged x, (N, 3, H * scale, W * scale).
            h: the trunk's output, (N, width, H, W).
        """
        folded = F.pixel_unshuffle(residual, self.scale).to(h.dtype)
        return split_moments(self.body(torch.cat([folded, h], dim=1)))


def split_moments(both: Tensor) -> tuple[Tensor, Tensor]:
    """Split (N, 2 * K, ...) into mean and clamped log-variance, float32."""
    mean, log_variance = both.float().chunk(2, dim=1)
    return mean, torch.clamp(log_variance, *LOG_VARIANCE)


def confidence(log_scale: Tensor) -> Tensor:
    """Return P(|error| <= CONFIDENT_WITHIN) of a Laplace distribution of scale b: 1 - exp(-t / b).

    The mapping is one-to-one: b = -t / ln(1 - confidence).
    """
    return 1.0 - torch.exp(-CONFIDENT_WITHIN * torch.exp(-log_scale))


def warm_start(net: ConditionalVae, state: dict[str, Tensor]) -> None:
    """Load the weights of a trained VAE, or those of a plain net of the same scale into the trunk.

    From a plain net, the VAE starts as that net: z has mean 0, the decoder passes h through, and
    the tail is the plain net's.

    Raises:
        ValueError: the weights belong to another architecture.
    """
    if not any(name.startswith("convs.") for name in state):
        load_exactly(net, state)
        return
    last = len(net.trunk)
    own = net.state_dict()
    taken = {name.replace("convs.", "trunk."): value for name, value in state.items()}
    for part in ("weight", "bias"):
        taken[f"tail.{part}"] = taken.pop(f"trunk.{last}.{part}", torch.empty(0))
    rest = {k: v for k, v in own.items() if not k.startswith(("trunk.", "tail."))}
    load_exactly(net, {**rest, **taken})
    for conv in net.decoder:
        assert isinstance(conv, nn.Conv2d)
        set_identity(conv)
    with torch.no_grad():
        net.prior.weight.zero_()  # z has mean 0 and variance 1 for every picture
