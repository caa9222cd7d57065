"""Recipe tables of the loss terms and the discriminator."""

from __future__ import annotations

import dataclasses

from training.recipe.families import Check


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossRecipe:
    """The weight of each loss term, 0 for none; `training.losses.pixel` has the formulas."""

    pixel: float = 1.0
    """Pixel loss of the kind `pixel_kind`."""
    pixel_kind: str = "l1"
    """`l1`, `mse` or `charbonnier`."""
    luma: float = 0.0
    """The same loss on BT.601 luma: spends a small net on what the eye weighs most, not chroma."""
    teacher: float = 0.0
    """`pixel` and `luma` again, against the output of `--teacher`."""
    fourier: float = 0.0
    """L1 between Fourier coefficients."""
    wavelet: float = 0.0
    """L1 between stationary Haar bands."""
    downscaled: float = 0.0
    """L1 after reduction by the scale: does not constrain texture."""
    grid: float = 0.0
    """L1 of patterns that repeat every `scale` pixels, an artifact of the adversarial stage."""
    consistency: float = 0.0
    """L1 between the reduced result and the input; for bicubic inputs only."""
    perceptual: float = 0.0
    """L1 between features, see `perceptual_net`."""
    perceptual_net: str = "random"
    """`random` (fixed, needs no file), `ae` (a trained encoder) or `vgg` (VGG19)."""
    perceptual_file: str = ""
    """Checkpoint for `ae`, torchvision state dict for `vgg`."""
    adversarial: float = 0.0
    """Adversarial loss; only with `objective = "gan"`."""
    adversarial_kind: str = "rpgan"
    """`bce` (classical, non-saturating), `ragan` or `rpgan`."""
    balance: float = 0.0
    """Above 0: each step scales the adversarial term so that its gradient at the generated picture
    is `balance` times that of all other terms; 0: its weight is used as it is."""
    feature_matching: float = 0.0
    """L1 between the discriminator's features."""
    ldl: float = 0.0
    """L1 where artifacts are likely (LDL)."""
    ldl_from: float = 1 / 3
    """Share of the run after which LDL begins."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminatorRecipe:
    """The discriminator of the adversarial stage; it shares the generator's optimizer settings."""

    width: int = 16
    """Channels at full resolution; 16 has 0.27 M parameters, 32 has 1.1 M."""
    sees: str = "rgb"
    """`rgb`, or `details`: the Haar bands LH, HL, HH only, so that colors do not matter."""
    learning_rate: float = 1e-4
    """Peak; follows the generator's schedule."""
    r1_gamma: float = 0.0
    """Weight of the gradient penalty on real pictures (R1), 0 for none."""
    r1_every: int = 16
    """Steps between gradient penalties; each then counts `r1_every` times."""


def choices(loss: LossRecipe, discriminator: DiscriminatorRecipe) -> list[Check]:
    """Return the checks of the keys that name one of several kinds."""
    choices = [
        ("loss.pixel_kind", loss.pixel_kind, ("l1", "mse", "charbonnier")),
        ("loss.perceptual_net", loss.perceptual_net, ("random", "ae", "vgg")),
        ("loss.adversarial_kind", loss.adversarial_kind, ("bce", "ragan", "rpgan")),
        ("discriminator.sees", discriminator.sees, ("rgb", "details")),
    ]
    return [(got in known, key, got, ", ".join(map(repr, known))) for key, got, known in choices]


def checks(
    loss: LossRecipe, discriminator: DiscriminatorRecipe, *, gan: bool, patch_px: int, scale: int
) -> list[Check]:
    """Return the checks of the loss terms against the objective and the patch size."""
    weights = {name: value for name, value in vars(loss).items() if isinstance(value, float)}
    side_px = patch_px * scale
    multiple = f"values where patch_px * {scale} is a multiple of 8"
    gan_only = ("adversarial", "balance", "feature_matching", "ldl")
    others = weights.keys() - {"adversarial", "balance", "ldl_from"}
    return [
        *choices(loss, discriminator),
        *((value >= 0, f"loss.{name}", value, "0 or more") for name, value in weights.items()),
        *(
            (gan or not weights[n], f"loss.{n}", weights[n], "0 unless objective = 'gan'")
            for n in gan_only
        ),
        (gan or any(weights[n] for n in others), "loss", 0, "at least one weight over 0"),
        (
            not loss.balance or any(weights[n] for n in others),
            "loss.balance",
            loss.balance,
            "0 without other terms",
        ),
        (
            not loss.teacher or loss.pixel > 0 or loss.luma > 0,
            "loss.teacher",
            loss.teacher,
            "0 without pixel or luma",
        ),
        (
            not gan or loss.adversarial > 0,
            "loss.adversarial",
            loss.adversarial,
            "over 0 with objective = 'gan'",
        ),
        (not gan or side_px % 8 == 0, "data.patch_px", patch_px, multiple),
        (discriminator.width >= 4, "discriminator.width", discriminator.width, "at least 4"),
        (
            discriminator.r1_gamma >= 0,
            "discriminator.r1_gamma",
            discriminator.r1_gamma,
            "0 or more",
        ),
        (
            discriminator.r1_every > 0,
            "discriminator.r1_every",
            discriminator.r1_every,
            "a positive number",
        ),
    ]
