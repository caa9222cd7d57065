"""Recipe tables for the training data: batches, degradation and the unpaired mode."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

Check: TypeAlias = tuple[bool, str, object, str]
"""One check of a value: passed, key, value, allowed values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """Which pictures to train on and how to make batches of them."""

    patch_px: int = 48
    """Side of a low-resolution patch; the high-resolution one is `scale` times larger."""
    batch: int = 16
    """Patches per step."""
    area_power: float = 1.0
    """A picture is drawn in proportion to its area to this power: 1 gives every pixel the same
    chance, 0 every picture. At 1, a few large smooth pictures dominate a mixed folder."""
    pictures: str = "folder"
    """`folder` reads `--data`; `dead_leaves` (for photographs) and `drawings` (comics, charts)
    generate pictures from the seed; if `--data` is given as well, its pictures are added."""
    generated: int = 24
    """Number of generated pictures."""
    generated_px: int = 192
    """Side of the generated pictures."""
    rescale_from: float = 1.0
    """Each HR patch is first scaled by a random factor between this and 1; 1 turns this off."""
    reduced_copies: tuple[float, ...] = ()
    """Factors by which each picture is also reduced once, before the run: a picture of a large
    sensor has little detail in each pixel, its reduced copies have more. Cheaper than
    `rescale_from`, and a teacher can see them."""
    full_size_below_px: int = 0
    """Pictures with a long side of this or more are trained on in their reduced copies only, where
    they have more detail in each pixel; 0: at their own size, too."""
    color_changes: bool = False
    """Exchange the color channels of half of the patches, and reduce the contrast of all by a
    random factor of 0.5 to 1: few pictures, seen often, are learned by heart less soon."""
    gray: bool = False
    """Also train on gray pictures; otherwise they are skipped and counted."""
    holdout: float = 0.02
    """Share of the pictures, chosen by a hash of their names, kept for validation."""

    def checks(self) -> list[Check]:
        """Return the checks of this table."""
        kinds = ("folder", "dead_leaves", "drawings")
        return [
            (self.pictures in kinds, "data.pictures", self.pictures, ", ".join(map(repr, kinds))),
            (self.generated > 0, "data.generated", self.generated, "a positive number"),
            (0 < self.rescale_from <= 1, "data.rescale_from", self.rescale_from, "0 < x <= 1"),
            (
                all(0 < factor < 1 for factor in self.reduced_copies),
                "data.reduced_copies",
                self.reduced_copies,
                "factors between 0 and 1",
            ),
            (
                self.full_size_below_px == 0
                or (self.full_size_below_px > 0 and len(self.reduced_copies) > 0),
                "data.full_size_below_px",
                self.full_size_below_px,
                "0, or a size in px with reduced_copies",
            ),
            (0 <= self.area_power <= 1, "data.area_power", self.area_power, "0 <= power <= 1"),
            (0 <= self.holdout < 1, "data.holdout", self.holdout, "0 <= share < 1"),
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """One stage of the real-world degradation: blur, resize, noise, JPEG (arXiv:2107.10833)."""

    blur: float = 1.0
    """Probability of any blur."""
    sinc: float = 0.1
    """Probability that the blur is a sinc filter (ringing) and not a kernel of `kernels`."""
    kernels: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    """Weights of the kernels: isotropic and anisotropic Gaussian, generalized Gaussian, plateau."""
    blur_sigma_px: tuple[float, float] = (0.2, 3.0)
    """Range of the blur kernels' standard deviations."""
    generalized_shape: tuple[float, float] = (0.5, 4.0)
    """Range of the generalized Gaussian's exponent; 1 is the Gaussian."""
    plateau_shape: tuple[float, float] = (1.0, 2.0)
    """Range of the plateau kernel's exponent."""
    resize: tuple[float, ...] = (0.2, 0.7, 0.1)
    """Weights of enlarging, reducing and keeping the size."""
    resize_range: tuple[float, float] = (0.15, 1.5)
    """Smallest and largest factor."""
    gaussian: float = 0.5
    """Probability that the noise is Gaussian and not Poisson."""
    gaussian_sigma: tuple[float, float] = (1.0, 30.0)
    """Range of the Gaussian noise's standard deviation, in levels of 255."""
    poisson_scale: tuple[float, float] = (0.05, 3.0)
    """Range of the factor on Poisson noise."""
    gray_noise: float = 0.4
    """Probability that the noise is gray: the same in all three channels."""
    jpeg_quality: tuple[float, float] = (30.0, 95.0)
    """Range of the JPEG quality."""

    def checks(self, prefix: str) -> list[Check]:
        """Return the checks of this table; `prefix` is the key of the table."""
        found: list[Check] = []
        for name, value in vars(self).items():
            key = f"{prefix}.{name}"
            if isinstance(value, float):
                found.append((0 <= value <= 1, key, value, "a probability"))
            elif name in ("kernels", "resize"):
                count = 6 if name == "kernels" else 3
                valid = len(value) == count and min(value) >= 0 and sum(value) > 0
                found.append((valid, key, value, f"{count} weights"))
            else:
                valid = 0 < value[0] <= value[1]
                found.append((valid, key, value, "two positive numbers, the smaller one first"))
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondStageRecipe(StageRecipe):
    """The second stage: the same keys, milder defaults."""

    blur: float = 0.8
    blur_sigma_px: tuple[float, float] = (0.2, 1.5)
    resize: tuple[float, ...] = (0.3, 0.4, 0.3)
    resize_range: tuple[float, float] = (0.3, 1.2)
    gaussian_sigma: tuple[float, float] = (1.0, 25.0)
    poisson_scale: tuple[float, float] = (0.05, 2.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DegradationRecipe:
    """How a low-resolution patch is made from a high-resolution one."""

    kind: str = "bicubic"
    """`bicubic` is MATLAB's bicubic reduction; `realworld` is the second-order model below;
    `gaussian` is the blur of `sigma_px` and `angle_deg`, then every `scale`-th pixel; `estimated`,
    for mode `adapt`, is `gaussian` with values estimated from your low-resolution pictures."""
    sigma_px: tuple[float, float] = (1.6, 1.6)
    """`gaussian`: standard deviations along and across `angle_deg`, high-resolution pixels."""
    angle_deg: float = 0.0
    """`gaussian`: direction of the first sigma, from the x axis (right) toward y (down)."""
    kernel_px: tuple[int, int] = (7, 21)
    """Smallest and largest side of a blur kernel; sides are odd."""
    final_sinc: float = 0.8
    """Probability of a sinc filter at the end."""
    first: StageRecipe = StageRecipe()
    """The first stage."""
    second: SecondStageRecipe = SecondStageRecipe()
    """The second stage."""

    def checks(self) -> list[Check]:
        """Return the checks of this table."""
        kinds, (low, high) = ("bicubic", "realworld", "gaussian", "estimated"), self.kernel_px
        odd = 3 <= low <= high and low % 2 == high % 2 == 1
        return [
            (self.kind in kinds, "degradation.kind", self.kind, " or ".join(map(repr, kinds))),
            (
                min(self.sigma_px) >= 0.1 and max(self.sigma_px) <= 16,
                "degradation.sigma_px",
                self.sigma_px,
                "two numbers of 0.1 to 16",
            ),
            (
                odd,
                "degradation.kernel_px",
                self.kernel_px,
                "two odd numbers of 3 or more",
            ),
            (
                0 <= self.final_sinc <= 1,
                "degradation.final_sinc",
                self.final_sinc,
                "a probability",
            ),
            *self.first.checks("degradation.first"),
            *self.second.checks("degradation.second"),
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnpairedRecipe:
    """`mode = "unpaired"`: a learned degrader between two domains (DASR, arXiv:2004.01178)."""

    degrader_width: int = 24
    """Channels of the degrader."""
    degrader_depth: int = 3
    """3x3 convolutions of the degrader between head and tail."""
    discriminator_width: int = 24
    """Channels of the domain discriminator's first layer."""
    learning_rate: float = 2e-4
    """Learning rate of the degrader and the discriminator."""
    content: float = 1.0
    """Weight of the low-frequency distance between the degrader's output and bicubic."""
    domain: float = 0.05
    """Weight of the adversarial loss between generated and real low-resolution pictures."""
    content_px: int = 7
    """Side of the box filter that defines low frequencies."""
