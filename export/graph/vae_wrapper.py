"""Exported graph of a `vae`: takes a uint8 picture and noise, returns a picture and confidence."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class VaeGraph(nn.Module):
    """Wrap a `ConditionalVae` as `Uint8Graph` does; the noise is an input, so runs are repeatable.

    `eps` of zeros gives the mean, standard normal noise a sample; noise scaled by 0..1 gives
    samples closer to the mean.
    """

    def __init__(self, network: nn.Module, *, is_float: bool = False) -> None:
        super().__init__()
        self.network = network
        self.is_float = is_float

    def forward(self, image: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Upscale.

        Args:
            image: (N, H, W, 3) uint8; with `is_float` float32 in 0..1, as is the result.
            eps: (N, latent, H, W) float32.

        Returns:
            (N, H * scale, W * scale, 3) uint8 and (N, H * scale, W * scale, 1) float32, 0..1.
        """
        if self.is_float:
            y, confidence = self.network(image.permute(0, 3, 1, 2), eps)
            picture = torch.clamp(y, 0.0, 1.0).permute(0, 2, 3, 1)
            return picture, confidence.permute(0, 2, 3, 1)
        x = (image.to(torch.float32) / 255.0).permute(0, 3, 1, 2)
        y, confidence = self.network(x, eps)
        levels = torch.round(torch.clamp(y * 255.0, 0.0, 255.0))
        return levels.permute(0, 2, 3, 1).to(torch.uint8), confidence.permute(0, 2, 3, 1)
