"""The autoencoder: restoration with skips, or a pure bottleneck without."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.layers import balanced_conv3, bf16_if
from training.recipe.families import AeRecipe


class Autoencoder(nn.Module):
    """A U-shaped network of residual blocks at 1/2, 1/4 and 1/8 of the resolution.

    The picture enters through PixelUnshuffle, so that no convolution runs at full resolution
    (FFDNet: Zhang, Zuo and Zhang 2018, arXiv:1710.04026). Downsampling is a strided convolution,
    upsampling a 1x1 convolution and a PixelShuffle. With additive skips, and the input added to
    the output, it restores (DRUNet: Zhang et al. 2021, arXiv:2008.13751). Without skips it is the
    textbook autoencoder: encoder f, latent, decoder g, and nothing bypasses the latent.

    For `scale` 2 or more only the decoder's last convolution grows.
    `bf16 = True` runs the convolutions under bfloat16 autocast while it is in training mode.
    """

    multiple_px = 8
    """Height and width of the input must be multiples of this."""

    def __init__(self, recipe: AeRecipe, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.skips = recipe.skips
        self.bf16 = False
        half, blocks = recipe.width, recipe.blocks
        quarter, eighth = recipe.quarter or half, recipe.eighth or half
        self.down1 = nn.Sequential(balanced_conv3(12, half), *_residuals(half, blocks))
        self.down2 = nn.Sequential(_down(half, quarter), Residual(quarter))
        self.down3 = nn.Sequential(_down(quarter, eighth), *_residuals(eighth, 2))
        self.levels = nn.Linear(3, half) if recipe.levels else None
        if self.levels is not None:
            nn.init.zeros_(self.levels.bias)
        latent = recipe.latent or eighth
        # with skips the deepest map is used as it is, which saves a convolution
        self.to_latent = nn.Identity() if recipe.skips else balanced_conv3(eighth, latent)
        self.from_latent = nn.Identity() if recipe.skips else balanced_conv3(latent, eighth)
        self.up3 = _up(eighth, quarter)
        self.body2 = Residual(quarter)
        self.up2 = _up(quarter, half)
        self.body1 = nn.Sequential(*_residuals(half, blocks))
        self.tail = balanced_conv3(half, 3 * (2 * scale) ** 2, gain=0.1)
        if not recipe.skips:
            assert self.tail.bias is not None
            nn.init.constant_(self.tail.bias, 0.5)  # start at gray: no anchor provides the mean

    def forward(self, picture: Tensor, levels: Tensor | None = None) -> Tensor:
        """Restore, or reconstruct, a batch.

        Args:
            picture: (N, 3, H, W), float, 0..1; H and W multiples of 8.
            levels: (N, 2) or (2,), sigma of the noise, 0..50 levels of 255, and JPEG quality,
                1..100. -1 says that there is none of one kind if the other is given, and that
                nothing is known if both are -1; None is (-1, -1). Ignored without `levels` in the
                recipe.

        Returns:
            (N, 3, H * scale, W * scale), float, not clipped.
        """
        with bf16_if(self.bf16 and self.training, picture):
            maps = self.features(picture, levels)
            out = self._decoded(self.to_latent(maps[2]), maps if self.skips else None)
        out = out.to(picture.dtype)
        if not self.skips:
            return out
        anchor = F.interpolate(picture, scale_factor=self.scale) if self.scale > 1 else picture
        return out + anchor

    def features(self, picture: Tensor, levels: Tensor | None = None) -> list[Tensor]:
        """Return the encoder's maps, for perceptual losses.

        Returns:
            (N, width, H/2, W/2), (N, quarter, H/4, W/4), (N, eighth, H/8, W/8).
        """
        first = self.down1[0](F.pixel_unshuffle(picture, 2))
        if self.levels is not None:
            if levels is None:
                levels = picture.new_full((1, 2), -1.0)
            # what a constant map beside the picture would add, without its convolution
            first = first + self.levels(encoded_levels(levels))[..., None, None]
        first = self.down1[1:](first)
        second = self.down2(first)
        return [first, second, self.down3(second)]

    def encode(self, picture: Tensor) -> Tensor:
        """Return f(x), the latent: (N, latent, H/8, W/8)."""
        latent: Tensor = self.to_latent(self.features(picture)[2])
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Return g(latent), (N, 3, H * scale, W * scale).

        Raises:
            ValueError: the net has skips, so a latent alone is not enough.
        """
        if self.skips:
            raise ValueError("an autoencoder with skips cannot decode a latent alone")
        return self._decoded(latent, None)

    def _decoded(self, latent: Tensor, maps: list[Tensor] | None) -> Tensor:
        x = self.up3(self.from_latent(latent))
        x = self.body2(x + maps[1] if maps else x)
        x = self.up2(x)
        x = self.body1(x + maps[0] if maps else x)
        return F.pixel_shuffle(self.tail(x), 2 * self.scale)


def encoded_levels(levels: Tensor) -> Tensor:
    """Return (N, 3) for (N, 2) levels: whether they are known, sigma / 50, (100 - quality) / 100.

    The first is 0 and the others are 0 where both levels are -1.
    """
    sigma, quality = levels[..., 0], levels[..., 1]
    known = (torch.maximum(sigma, quality) + 1).clamp(0, 1)
    compressed = (quality + 1).clamp(0, 1) * (100 - quality.clamp(0, 100)) / 100
    return torch.stack([known, sigma.clamp_min(0) / 50, compressed], dim=-1)


class Encoder(nn.Module):
    """The encoder f as a module that can be exported: picture to latent."""

    def __init__(self, net: Autoencoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, picture: Tensor) -> Tensor:
        """Encode (N, 3, H, W)."""
        return self.net.encode(picture)


class Decoder(nn.Module):
    """The decoder g as a module that can be exported: latent to picture, clipped to 0..1."""

    def __init__(self, net: Autoencoder) -> None:
        super().__init__()
        self.net = net

    def forward(self, latent: Tensor) -> Tensor:
        """Decode (N, latent, H/8, W/8)."""
        return torch.clamp(self.net.decode(latent), 0.0, 1.0)


class Residual(nn.Module):
    """x + conv(ReLU(conv(x))) at one width.

    There is no ReLU after the sum (EDSR: Lim et al. 2017, arXiv:1707.02921), so that signed
    values, such as noise to subtract, pass through. The second convolution starts near zero, so a
    stack of any depth starts as the identity. In 400 steps it learned what blocks with a ReLU
    after the sum did not learn in 10,000 (training/experiments.md).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = balanced_conv3(channels, channels)
        self.conv2 = balanced_conv3(channels, channels, gain=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        residual: Tensor = self.conv2(F.relu(self.conv1(x)))
        return x + residual


def _residuals(channels: int, count: int) -> list[Residual]:
    return [Residual(channels) for _ in range(count)]


def _down(inputs: int, outputs: int) -> nn.Conv2d:
    """Halve the resolution, with separate weights for each of the four pixels."""
    return nn.Conv2d(inputs, outputs, 2, stride=2)


def _up(inputs: int, outputs: int) -> nn.Sequential:
    """Double the resolution: (N, inputs, H, W) to (N, outputs, 2H, 2W)."""
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))
