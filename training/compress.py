"""The flat autoencoder as a codec: bits per pixel against PSNR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.networks.small import FlatAutoencoder


@dataclass(frozen=True)
class Quantiser:
    """Each number of the latent on `2**bits` equal steps between its least and greatest value."""

    low: Tensor
    """(latent,), least values over the pictures that it was fitted on."""
    high: Tensor
    """(latent,), greatest values."""
    bits: int
    """Per number of the latent."""

    def encode(self, latent: Tensor) -> Tensor:
        """Return whole numbers 0..2**bits - 1, int64; what lies outside is clipped."""
        share = (latent - self.low) / (self.high - self.low).clamp(min=1e-12)
        levels: Tensor = (share.clamp(0, 1) * (2**self.bits - 1)).round().long()
        return levels

    def decode(self, levels: Tensor) -> Tensor:
        """Return the latent that the whole numbers stand for."""
        latent: Tensor = self.low + levels / (2**self.bits - 1) * (self.high - self.low)
        return latent


@dataclass(frozen=True)
class Rate:
    """One point of the curve."""

    bits: int
    """Per number of the latent."""
    bits_per_px: float
    """Latent numbers times bits, over the pixels of a picture; no entropy coding."""
    entropy_per_px: float
    """What ideal coding of each number by its own histogram would take; a bound, not a codec."""
    psnr_db: float
    """Of all samples in RGB, peak 1, against the pictures."""


@torch.no_grad()
def fit(net: FlatAutoencoder, pictures: Tensor, bits: int) -> Quantiser:
    """Fit a quantiser to the latents of (N, 3, S, S) pictures: those of training, not of a test."""
    latent = net.encoder(pictures)
    return Quantiser(latent.amin(dim=0), latent.amax(dim=0), bits)


@torch.no_grad()
def rate_distortion(
    net: FlatAutoencoder, fitted_on: Tensor, pictures: Tensor, bits: Sequence[int] = (2, 4, 6, 8)
) -> list[Rate]:
    """Compress (N, 3, S, S) pictures in 0..1 at several step sizes."""
    area = pictures.shape[2] * pictures.shape[3]
    latent = net.encoder(pictures)
    curve = []
    for count in bits:
        quantiser = fit(net, fitted_on, count)
        levels = quantiser.encode(latent)
        error = (net.decoder(quantiser.decode(levels)) - pictures).square().mean()
        entropy = sum(_entropy(column) for column in levels.T)
        curve.append(
            Rate(
                count,
                latent.shape[1] * count / area,
                entropy / area,
                -10 * float(torch.log10(error)),
            )
        )
    return curve


def _entropy(values: Tensor) -> float:
    """Return the entropy of a column of whole numbers, bits per value."""
    share = torch.bincount(values).float() / len(values)
    share = share[share > 0]
    return float(-(share * share.log2()).sum())
