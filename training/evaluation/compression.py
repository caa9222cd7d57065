"""The flat autoencoder as a codec: bits per pixel against PSNR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.networks.small import FlatAutoencoder


@dataclass(frozen=True)
class Quantizer:
    """Uniform quantizer: `2**bits` levels from the minimum to the maximum of each latent number."""

    low: Tensor
    """(latent,), minima over the pictures it was fitted on."""
    high: Tensor
    """(latent,), maxima."""
    bits: int
    """Bits per number of the latent."""

    def encode(self, latent: Tensor) -> Tensor:
        """Return levels 0..2**bits - 1, int64; values outside the range are clipped."""
        share = (latent - self.low) / (self.high - self.low).clamp(min=1e-12)
        levels: Tensor = (share.clamp(0, 1) * (2**self.bits - 1)).round().long()
        return levels

    def decode(self, levels: Tensor) -> Tensor:
        """Return the latent of quantized levels."""
        latent: Tensor = self.low + levels / (2**self.bits - 1) * (self.high - self.low)
        return latent


@dataclass(frozen=True)
class Rate:
    """One point of the rate-distortion curve."""

    bits: int
    """Bits per number of the latent."""
    bits_per_px: float
    """Latent numbers times bits, divided by the pixels of a picture; no entropy coding."""
    entropy_per_px: float
    """Bits per pixel if each number were ideally coded by its own histogram; a bound only."""
    psnr_db: float
    """PSNR over all RGB samples, peak 1."""


@torch.no_grad()
def fit(net: FlatAutoencoder, pictures: Tensor, bits: int) -> Quantizer:
    """Fit a quantizer to the latents of (N, 3, S, S) training pictures, never test pictures."""
    latent = net.encoder(pictures)
    return Quantizer(latent.amin(dim=0), latent.amax(dim=0), bits)


@torch.no_grad()
def rate_distortion(
    net: FlatAutoencoder, fitted_on: Tensor, pictures: Tensor, bits: Sequence[int] = (2, 4, 6, 8)
) -> list[Rate]:
    """Compress (N, 3, S, S) pictures in 0..1 at several step sizes."""
    area = pictures.shape[2] * pictures.shape[3]
    latent = net.encoder(pictures)
    curve = []
    for count in bits:
        quantizer = fit(net, fitted_on, count)
        levels = quantizer.encode(latent)
        error = (net.decoder(quantizer.decode(levels)) - pictures).square().mean()
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
    """Return the entropy of a column of integers, bits per value."""
    share = torch.bincount(values).float() / len(values)
    share = share[share > 0]
    return float(-(share * share.log2()).sum())
