"""What the terms of the loss and the adversarial stage add to a recipe."""

from __future__ import annotations

import dataclasses

from training.family_recipes import Check


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossRecipe:
    """The weight of each term of the loss, 0 for none; `training.losses` has the formulas."""

    pixel: float = 1.0
    """Distance of pixels, see `pixel_kind`."""
    pixel_kind: str = "l1"
    """`l1`, `mse` or `charbonnier`."""
    luma: float = 0.0
    """The same of BT.601 luma: a small net is spent on what the eye weighs most, not on chroma."""
    teacher: float = 0.0
    """`pixel` and `luma` once more, against what `--teacher` makes of the input."""
    fourier: float = 0.0
    """L1 between Fourier coefficients."""
    wavelet: float = 0.0
    """L1 between stationary Haar bands."""
    downscaled: float = 0.0
    """L1 after reduction by the scale: leaves texture free."""
    grid: float = 0.0
    """L1 of what repeats every `scale` pixels: against screen doors of the adversarial stage."""
    consistency: float = 0.0
    """L1 between the reduced result and the input; for bicubic inputs only."""
    perceptual: float = 0.0
    """L1 between features, see `perceptual_net`."""
    perceptual_net: str = "random"
    """`random` (fixed, needs nothing), `ae` (an encoder of ours) or `vgg` (VGG19)."""
    perceptual_file: str = ""
    """Checkpoint for `ae`, torchvision state dict for `vgg`."""
    adversarial: float = 0.0
    """The game against the discriminator; only with `objective = "gan"`."""
    adversarial_kind: str = "rpgan"
    """`bce` (classical, non-saturating), `ragan` or `rpgan`."""
    balance: float = 0.0
    """Above 0: in each step the adversarial term is scaled so that its pull on the made picture is
    `balance` times that of all other terms; 0: its weight is taken as it is."""
    feature_matching: float = 0.0
    """L1 between the discriminator's features."""
    ldl: float = 0.0
    """L1 where artefacts are likely (LDL)."""
    ldl_from: float = 1 / 3
    """Share of the run after which LDL begins."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscriminatorRecipe:
    """The judge of the adversarial stage; it shares the generator's optimiser settings."""

    width: int = 16
    """Channels at full resolution; 16 has 0.27 M parameters, 32 has 1.1 M."""
    sees: str = "rgb"
    """`rgb`, or `details`: the Haar bands LH, HL, HH only, so that colours stay out of the game."""
    learning_rate: float = 1e-4
    """Peak; follows the generator's schedule."""
    r1_gamma: float = 0.0
    """Weight of the gradient penalty on real pictures (R1), 0 for none."""
    r1_every: int = 16
    """Steps between gradient penalties; each then counts `r1_every` times."""


def choices(loss: LossRecipe, judge: DiscriminatorRecipe) -> list[Check]:
    """Return the keys of which only some values are known."""
    choices = [
        ("loss.pixel_kind", loss.pixel_kind, ("l1", "mse", "charbonnier")),
        ("loss.perceptual_net", loss.perceptual_net, ("random", "ae", "vgg")),
        ("loss.adversarial_kind", loss.adversarial_kind, ("bce", "ragan", "rpgan")),
        ("discriminator.sees", judge.sees, ("rgb", "details")),
    ]
    return [(got in known, key, got, ", ".join(map(repr, known))) for key, got, known in choices]


def checks(
    loss: LossRecipe, judge: DiscriminatorRecipe, *, gan: bool, patch_px: int, scale: int
) -> list[Check]:
    """Return what must hold between the terms, the objective and the size of the patches."""
    weights = {name: value for name, value in vars(loss).items() if isinstance(value, float)}
    side_px = patch_px * scale
    multiple = f"such that {scale} times it is a multiple of 8"
    games = ("adversarial", "balance", "feature_matching", "ldl")
    others = weights.keys() - {"adversarial", "balance", "ldl_from"}
    return [
        *choices(loss, judge),
        *((value >= 0, f"loss.{name}", value, "0 or more") for name, value in weights.items()),
        *((gan or not weights[n], f"loss.{n}", weights[n], "0 without a gan") for n in games),
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
        (not gan or loss.adversarial > 0, "loss.adversarial", loss.adversarial, "over 0 in a gan"),
        (not gan or side_px % 8 == 0, "data.patch_px", patch_px, multiple),
        (judge.width >= 4, "discriminator.width", judge.width, "at least 4"),
        (judge.r1_gamma >= 0, "discriminator.r1_gamma", judge.r1_gamma, "0 or more"),
        (judge.r1_every > 0, "discriminator.r1_every", judge.r1_every, "a positive number"),
    ]
