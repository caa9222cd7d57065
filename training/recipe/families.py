"""Recipe tables of the families `ae` and `vae`, of input damage and of the textbook models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Check: TypeAlias = tuple[bool, str, object, str]
"""One check of a value: passed, key, value, allowed values."""

BLOCK_PX = 8
"""Side of a JPEG block."""


@dataclass(frozen=True, kw_only=True)
class CorruptRecipe:
    """Damage done to the low-resolution patch; `ae` learns to undo it. Off by default.

    A patch is damaged by noise, or by JPEG, or by noise and then JPEG.
    """

    noise_max: float = 0.0
    """Gaussian noise, independent in each color, sigma in 0..this, levels of 255."""
    noise_power: float = 1.0
    """Sigmas are `noise_max * u**noise_power` with u uniform in 0..1: at 1 all are equally likely;
    above 1 low ones, whose small errors weigh least in the loss, are more frequent."""
    jpeg_min: int = 10
    """Lowest JPEG quality."""
    jpeg_power: float = 1.0
    """Qualities are `jpeg_min + (jpeg_max - jpeg_min) * u**jpeg_power` with u uniform in 0..1: at 1
    all are equally likely; above 1 low ones, which need the most repair, are more frequent."""
    jpeg_max: int = 0
    """Highest JPEG quality; 0: no JPEG. With JPEG a patch loses 8 px of `data.patch_px`: the block
    grid has a random offset, as in a picture that was cropped after compression."""
    aligned_share: float = 0.0
    """Share of patches whose block grid has offset 0, as in uncropped pictures: a net of strided
    convolutions can learn that phase. The other patches have a random offset."""
    noise_share: float = 0.45
    """Share of patches with noise alone, if both noise and JPEG are on."""
    jpeg_share: float = 0.40
    """Share of patches with JPEG alone, if both are on; the other patches have both."""
    reduce: int = 1
    """Reduce the patch by this factor and enlarge it again, bicubically: this removes texture,
    which a `vae` at x1 then learns to synthesize. 1: off."""

    @property
    def on(self) -> bool:
        """Whether any damage is on."""
        return self.noise_max > 0 or self.jpeg_max > 0 or self.reduce > 1

    @property
    def trim_px(self) -> int:
        """Pixels by which each side of a patch shrinks."""
        return BLOCK_PX if self.jpeg_max > 0 else 0

    def checks(self) -> list[Check]:
        """Return the checks of this table."""
        shares = self.noise_share + self.jpeg_share
        return [
            (self.noise_max >= 0, "corrupt.noise_max", self.noise_max, "0 or more"),
            (self.noise_power > 0, "corrupt.noise_power", self.noise_power, "over 0"),
            (0 <= self.jpeg_max <= 100, "corrupt.jpeg_max", self.jpeg_max, "0 to 100"),
            (
                self.jpeg_max == 0 or 1 <= self.jpeg_min <= self.jpeg_max,
                "corrupt.jpeg_min",
                self.jpeg_min,
                "1 to jpeg_max",
            ),
            (self.jpeg_power > 0, "corrupt.jpeg_power", self.jpeg_power, "over 0"),
            (
                0 <= self.aligned_share <= 1,
                "corrupt.aligned_share",
                self.aligned_share,
                "0 <= share <= 1",
            ),
            (self.noise_share >= 0, "corrupt.noise_share", self.noise_share, "0 or more"),
            (
                self.jpeg_share >= 0 and shares <= 1,
                "corrupt.jpeg_share",
                self.jpeg_share,
                "0 to 1 - noise_share",
            ),
            (1 <= self.reduce <= 8, "corrupt.reduce", self.reduce, "1 to 8"),
        ]


@dataclass(frozen=True, kw_only=True)
class AeRecipe:
    """The autoencoder and its loss."""

    width: int = 64
    """Channels at half resolution, where a position stands for 12 samples of the picture."""
    blocks: int = 2
    """Residual blocks at half resolution, in the encoder and again in the decoder."""
    quarter: int = 0
    """Channels at a quarter of the resolution; 0: as `width`."""
    eighth: int = 0
    """Channels at an eighth of the resolution; 0: as `width`."""
    skips: bool = True
    """Add the encoder's maps to the decoder's and the input to the output (restoration). Without
    skips: a pure bottleneck autoencoder, whose output depends on the latent alone."""
    latent: int = 0
    """Channels of the latent at an eighth of the resolution, without skips; 0: as `eighth`."""
    loss: str = "l1"
    """`l1` (median, sharper) or `mse` (mean, highest PSNR)."""
    fft: float = 0.05
    """Weight of the L1 distance between spectra."""
    luma: float = 0.0
    """Weight of an additional term, of the kind `loss`, on BT.601 luma."""
    levels: bool = False
    """Take the levels of noise and JPEG as a second input, (sigma, quality), which may be unknown:
    the network then restores blindly."""
    unknown_share: float = 0.5
    """Share of the patches whose levels are not told, with `levels`."""
    relative: bool = False
    """Weigh each patch by 1 / (its mean damage + 1/255): mild damage counts more. L1 balances
    patches without it, because its gradient does not grow with the error."""

    def inputs(self) -> dict[str, float]:
        """Return the numbers that the network takes beside the picture, and their defaults."""
        return {"noise": -1.0, "jpeg": -1.0} if self.levels else {}

    def input_ranges(self, damage: CorruptRecipe) -> dict[str, tuple[float, float]]:
        """Return the lowest and highest of these numbers in training; -1 is unknown."""
        highest = {"noise": damage.noise_max, "jpeg": float(damage.jpeg_max)}
        unknown = self.inputs()
        return {name: (unknown[name], highest[name]) for name in unknown if highest[name] > 0}

    def checks(self) -> list[Check]:
        """Return the checks of this table."""
        return [
            (self.width >= 4, "ae.width", self.width, "at least 4"),
            (self.blocks >= 0, "ae.blocks", self.blocks, "0 or more"),
            (self.quarter >= 0, "ae.quarter", self.quarter, "0 or more"),
            (self.eighth >= 0, "ae.eighth", self.eighth, "0 or more"),
            (self.latent >= 0, "ae.latent", self.latent, "0 or more"),
            (not (self.skips and self.latent), "ae.latent", self.latent, "0 where skips = true"),
            (self.loss in ("l1", "mse"), "ae.loss", self.loss, "'l1' or 'mse'"),
            (self.fft >= 0, "ae.fft", self.fft, "0 or more"),
            (self.luma >= 0, "ae.luma", self.luma, "0 or more"),
            (not self.levels or self.skips, "ae.levels", self.levels, "true only with skips"),
            (
                0 <= self.unknown_share <= 1,
                "ae.unknown_share",
                self.unknown_share,
                "a probability",
            ),
        ]


@dataclass(frozen=True, kw_only=True)
class NoisyRecipe:
    """`mode = "noisy"`: learn to remove noise from noisy pictures alone."""

    sigma: float = 0.0
    """Standard deviation of the noise, levels of 255; 0: estimated for each patch."""
    self_training: float = 0.6
    """Share of the steps, the last ones, that learn from what the network itself has made of the
    pictures; 0: all steps learn from neighboring pixels."""

    def checks(self) -> list[Check]:
        """Return the checks of this table."""
        return [
            (0 <= self.sigma <= 255, "noisy.sigma", self.sigma, "0 to 255"),
            (
                0 <= self.self_training < 1,
                "noisy.self_training",
                self.self_training,
                "0 or more, under 1",
            ),
        ]


@dataclass(frozen=True, kw_only=True)
class VaeRecipe:
    """The conditional variational autoencoder, whose trunk is `network` (the plain net)."""

    latent: int = 8
    """Channels of z, at the input's resolution."""
    decoder_depth: int = 3
    """3x3 convolutions of the decoder after the first, which takes z."""
    posterior_width: int = 64
    """Channels of the posterior network, used in training only."""
    beta: float = 1.0
    """Weight of the KL divergence after warm-up; 1 is the ELBO."""
    kl_warm_up: float = 0.3
    """Share of the steps over which the KL weight rises from 0 to `beta`."""
    free_nats: float = 0.05
    """Free bits: KL per channel and position, in nats, below which there is no penalty."""
    mean_weight: float = 1.0
    """Weight of L1 at the prior's mean, which is the output for `eps = 0`."""

    def checks(self) -> list[Check]:
        """Return the checks of this table."""
        return [
            (self.latent >= 1, "vae.latent", self.latent, "at least 1"),
            (self.decoder_depth >= 0, "vae.decoder_depth", self.decoder_depth, "0 or more"),
            (self.posterior_width >= 4, "vae.posterior_width", self.posterior_width, "at least 4"),
            (self.beta >= 0, "vae.beta", self.beta, "0 or more"),
            (0 <= self.kl_warm_up <= 1, "vae.kl_warm_up", self.kl_warm_up, "0 to 1"),
            (self.free_nats >= 0, "vae.free_nats", self.free_nats, "0 or more"),
            (self.mean_weight >= 0, "vae.mean_weight", self.mean_weight, "0 or more"),
        ]


@dataclass(frozen=True, kw_only=True)
class SmallRecipe:
    """The textbook model of a family for small pictures of `data.patch_px` on each side."""

    on: bool = False
    """Train it instead of the family's model for pictures of any size."""
    latent: int = 128
    """Numbers in the flat latent (`ae`, `vae`) or in the noise z (`gan`)."""
    width: int = 32
    """Channels after the first convolution; doubled at each halving, 256 at most."""
    mask: float = 0.0
    """`ae`: largest side of the masked rectangle, over the picture's; the net completes it."""
    beta: float = 1.0
    """`vae`: weight of the KL divergence; 1 is the ELBO."""

    def checks(self) -> list[Check]:
        """Return the checks of this table."""
        return [
            (self.latent >= 1, "small.latent", self.latent, "at least 1"),
            (self.width >= 4, "small.width", self.width, "at least 4"),
            (0 <= self.mask < 1, "small.mask", self.mask, "0 <= mask < 1"),
            (self.beta >= 0, "small.beta", self.beta, "0 or more"),
        ]
