"""The discriminator of the adversarial stage."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from training.networks.wavelets import haar_bands

SLOPE = 0.2
DETAIL_GAIN = 8.0
"""Neighbors in photographs differ by about 0.03: times 8, they span the range of colors."""


class UNetDiscriminator(nn.Module):
    """A U-Net discriminator with spectral normalization and one logit per pixel.

    Wang et al. 2021 (Real-ESRGAN, arXiv:2107.10833): three halvings by 4x4 convolutions, three
    bilinear doublings with the encoder's maps added, LeakyReLU 0.2. Spectral normalization (Miyato
    et al. 2018, arXiv:1802.05957) bounds its slope. Its estimates are updated in training mode
    only, so call `eval()` wherever they must not change.

    With `details` it sees the Haar bands LH, HL, HH in place of colors (after WGSR, Korkmaz et al.
    2024, arXiv:2402.19215) and so ignores smooth color casts.

    `bf16 = True` runs it under bfloat16 autocast, in training and in eval mode.
    """

    def __init__(self, width: int, *, details: bool = False) -> None:
        super().__init__()
        self.details = details
        self.bf16 = False
        w = width
        self.head = nn.Conv2d(9 if details else 3, w, 3, padding=1)
        self.down = nn.ModuleList(
            [_halving(w, 2 * w), _halving(2 * w, 4 * w), _halving(4 * w, 8 * w)]
        )
        self.up = nn.ModuleList([_conv(8 * w, 4 * w), _conv(4 * w, 2 * w), _conv(2 * w, w)])
        self.last = nn.ModuleList([_conv(w, w), _conv(w, w)])
        self.tail = nn.Conv2d(w, 1, 3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        """Return one logit per pixel, (N, 1, H, W); H and W are multiples of 8."""
        return self.with_features(picture)[0]

    def with_features(self, picture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and the features of the encoder: 4 maps, at 1, 1/2, 1/4, 1/8."""
        x = _details(picture) if self.details else picture
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            maps = [_act(self.head(x))]
            for conv in self.down:
                maps.append(_act(conv(maps[-1])))
            x = maps[-1]
            for conv, skip in zip(self.up, reversed(maps[:-1]), strict=True):
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
                x = _act(conv(x)) + skip
            for conv in self.last:
                x = _act(conv(x))
            logits = self.tail(x)
        return logits.float(), [features.float() for features in maps]


def _details(picture: Tensor) -> Tensor:
    colors = picture.shape[1]
    return DETAIL_GAIN * haar_bands(picture)[:, colors:]


def _act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def _conv(before: int, after: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(before, after, 3, padding=1, bias=False))


def _halving(before: int, after: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False))
