"""Textbook models for small pictures of one size: flat autoencoder, VAE, and a GAN from noise."""

from __future__ import annotations

import itertools
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from training.networks.vae import split_moments
from training.recipe.families import SmallRecipe

MAX_WIDTH = 256


class Encoder(nn.Module):
    """(N, 3, S, S) in 0..1 to (N, outputs): three strided convolutions and one linear layer."""

    def __init__(self, recipe: SmallRecipe, size_px: int, outputs: int) -> None:
        super().__init__()
        widths = [3, *_widths(recipe)]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = nn.Linear(widths[-1] * (size_px // 8) ** 2, outputs)

    def forward(self, picture: Tensor) -> Tensor:
        """Encode."""
        code: Tensor = self.linear(self.convs(picture).flatten(1))
        return code


class Decoder(nn.Module):
    """(N, latent) to (N, 3, S, S) in 0..1: one linear layer and three transposed convolutions.

    As a GAN's generator it is DCGAN's (Radford, Metz and Chintala 2016, arXiv:1511.06434) with
    group instead of batch normalization, so that a picture does not depend on its batch.
    """

    def __init__(self, recipe: SmallRecipe, size_px: int) -> None:
        super().__init__()
        first, second, third = reversed(_widths(recipe))
        self.latent = recipe.latent
        self.side = size_px // 8
        self.linear = nn.Linear(recipe.latent, first * self.side**2)
        self.convs = nn.Sequential(
            nn.GroupNorm(1, first),
            nn.ReLU(),
            nn.ConvTranspose2d(first, second, 4, stride=2, padding=1),
            nn.GroupNorm(1, second),
            nn.ReLU(),
            nn.ConvTranspose2d(second, third, 4, stride=2, padding=1),
            nn.GroupNorm(1, third),
            nn.ReLU(),
            nn.ConvTranspose2d(third, 3, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, code: Tensor) -> Tensor:
        """Decode, or generate."""
        picture: Tensor = self.convs(self.linear(code).unflatten(1, (-1, self.side, self.side)))
        return picture


class FlatAutoencoder(nn.Module):
    """Encoder f, a flat latent, decoder g (Hinton and Salakhutdinov 2006)."""

    scale = 1

    def __init__(self, recipe: SmallRecipe, size_px: int) -> None:
        super().__init__()
        self.encoder = Encoder(recipe, size_px, recipe.latent)
        self.decoder = Decoder(recipe, size_px)

    def forward(self, picture: Tensor) -> Tensor:
        """Return g(f(x)), (N, 3, S, S): reconstructs x, and completes areas masked with gray."""
        reconstructed: Tensor = self.decoder(self.encoder(picture))
        return reconstructed


class FlatVae(nn.Module):
    """q(z | x), p(x | z) and the standard normal prior (Kingma and Welling 2014, arXiv:1312.6114).

    `decoder` alone generates pictures: it decodes normal noise, or points between two codes.
    """

    scale = 1

    def __init__(self, recipe: SmallRecipe, size_px: int) -> None:
        super().__init__()
        self.encoder = Encoder(recipe, size_px, 2 * recipe.latent)
        self.decoder = Decoder(recipe, size_px)

    def forward(self, picture: Tensor, eps: Tensor | None = None) -> Tensor:
        """Reconstruct (N, 3, S, S) from the posterior's mean, or a sample where `eps` is given.

        Args:
            picture: (N, 3, S, S), 0..1.
            eps: (N, latent), standard normal.
        """
        mean, log_variance = self.moments(picture)
        z = mean if eps is None else mean + torch.exp(0.5 * log_variance) * eps
        reconstructed: Tensor = self.decoder(z)
        return reconstructed

    def moments(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | x), each (N, latent)."""
        return split_moments(self.encoder(picture))


class Discriminator(nn.Module):
    """(N, 3, S, S) to (N,) logits of being real; spectral norm (Miyato et al. 2018, 1802.05957)."""

    def __init__(self, recipe: SmallRecipe, size_px: int) -> None:
        super().__init__()
        widths = [3, *_widths(recipe)]
        self.convs = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1))
            for before, after in itertools.pairwise(widths)
        )
        self.linear = spectral_norm(nn.Linear(widths[-1] * (size_px // 8) ** 2, 1))

    def forward(self, picture: Tensor) -> Tensor:
        """Return the logits of (N, 3, S, S) pictures in 0..1."""
        x = 2 * picture - 1
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        logits: Tensor = self.linear(x.flatten(1))
        return logits[:, 0]


Small: TypeAlias = FlatAutoencoder | FlatVae | Decoder


def build(family: str, recipe: SmallRecipe, size_px: int) -> Small:
    """Build the network that a family ships: an autoencoder, a VAE, or a generator."""
    if family == "ae":
        return FlatAutoencoder(recipe, size_px)
    if family == "vae":
        return FlatVae(recipe, size_px)
    return Decoder(recipe, size_px)


def interpolate(decoder: Decoder, start: Tensor, end: Tensor, count: int) -> Tensor:
    """Decode `count` codes on the straight line between two, endpoints included.

    Args:
        decoder: of a VAE, an autoencoder or a GAN.
        start: (latent,)
        end: (latent,)
        count: 2 or more.

    Returns:
        (count, 3, S, S), 0..1.
    """
    share = torch.linspace(0, 1, count)[:, None]
    pictures: Tensor = decoder((1 - share) * start + share * end)
    return pictures


def _widths(recipe: SmallRecipe) -> list[int]:
    return [min(recipe.width * 2**level, MAX_WIDTH) for level in range(3)]
