"""A training run as a frozen value, read from TOML."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, get_type_hints

T = TypeVar("T")


class RecipeError(ValueError):
    """A recipe that cannot be run; the message names file, key and what is allowed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkRecipe:
    """The plain network: `3 -> width`, `depth` times `width -> width`, `width -> 3 * scale**2`."""

    width: int = 32
    """Channels of the body; 32 and 64 suit INT8 tensor layouts."""
    depth: int = 8
    """Number of 3x3 convolutions between head and tail."""
    attention: str = "none"
    """After every second convolution of the body: `none`, `se` (squeeze and excitation, global) or
    `span` (parameter-free). Multiplications of feature maps do not survive INT8."""
    reparam: bool = False
    """Train each convolution as the sum of a 3x3, 1x3, 3x1 and 1x1 one; merged before export."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """How pictures become batches."""

    patch_px: int = 48
    """Side of a low-resolution patch; the high-resolution one is `scale` times larger."""
    batch: int = 16
    """Patches per step, pictures drawn in proportion to their area."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimiserRecipe:
    """AdamW without decay; plain nets want a high learning rate with warm-up and clipping."""

    learning_rate: float = 2e-3
    """Peak, reached after `warm_up` steps; falls as a cosine to `final_fraction` of it."""
    final_fraction: float = 0.01
    """Learning rate of the last step, over the peak."""
    warm_up: int = 200
    """Steps of linear warm-up."""
    beta1: float = 0.9
    """Decay of the gradient's running mean."""
    beta2: float = 0.99
    """Decay of the squared gradient's running mean."""
    clip_norm: float = 1.0
    """Largest global gradient norm."""
    ema: float = 0.999
    """Decay of the averaged weights, which are the ones evaluated and shipped."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossRecipe:
    """The weight of each term of the loss, 0 for none; `training.losses` has the formulas."""

    pixel: float = 1.0
    """Distance of pixels, see `pixel_kind`."""
    pixel_kind: str = "l1"
    """`l1`, `mse` or `charbonnier`."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run."""

    name: str
    """Name of the model; becomes the file's name."""
    scale: int
    """Upscaling factor: 2, 3 or 4."""
    family: str = "gan"
    """`gan`."""
    objective: str = "pixel"
    """`pixel` (fidelity) or `gan` (fidelity and texture; start it from a `pixel` run)."""
    steps: int = 10_000
    """Optimiser steps."""
    seed: int = 0
    """Of initialisation, patches and flips."""
    bf16: bool = True
    """Convolutions in bfloat16 autocast; anchor and loss stay in float32."""
    evaluate_every: int = 2_000
    """Steps between evaluations."""
    save_every: int = 1_000
    """Steps between checkpoints; a killed run loses at most these."""
    network: NetworkRecipe = NetworkRecipe()
    """The architecture."""
    data: DataRecipe = DataRecipe()
    """The batches."""
    optimiser: OptimiserRecipe = OptimiserRecipe()
    """The optimiser and its schedule."""
    loss: LossRecipe = LossRecipe()
    """The terms of the loss."""
    discriminator: DiscriminatorRecipe = DiscriminatorRecipe()
    """The judge, for `objective = "gan"`."""

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain dicts, as written into checkpoints."""
        return dataclasses.asdict(self)


def read_recipe(path: Path) -> Recipe:
    """Read and check one TOML recipe.

    Raises:
        RecipeError: not TOML, an unknown key (the nearest known one is named), a wrong type or an
            impossible value.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder, expected a .toml file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not TOML: {error}") from error
    return recipe_from_dict(table, source=str(path))


def recipe_from_dict(table: dict[str, Any], *, source: str) -> Recipe:
    """Build a recipe from plain dicts; `source` begins every error message."""
    recipe = _from_table(Recipe, table, source)
    checks: list[Check] = [
        (recipe.scale in (2, 3, 4), "scale", recipe.scale, "2, 3 or 4"),
        (recipe.family == "gan", "family", recipe.family, "'gan'"),
        (recipe.steps > 0, "steps", recipe.steps, "a positive number"),
        (recipe.save_every > 0, "save_every", recipe.save_every, "a positive number"),
        (recipe.evaluate_every > 0, "evaluate_every", recipe.evaluate_every, "a positive number"),
        (recipe.data.batch > 0, "data.batch", recipe.data.batch, "a positive number"),
        (recipe.data.patch_px >= 8, "data.patch_px", recipe.data.patch_px, "at least 8"),
        (recipe.network.width >= 4, "network.width", recipe.network.width, "at least 4"),
        (recipe.network.depth >= 1, "network.depth", recipe.network.depth, "at least 1"),
        (0 <= recipe.optimiser.ema < 1, "optimiser.ema", recipe.optimiser.ema, "0 <= ema < 1"),
        *_choices(recipe),
        *_loss_checks(recipe),
    ]
    for holds, key, got, allowed in checks:
        if not holds:
            raise RecipeError(f"{source}: {key} = {got!r}, allowed: {allowed}")
    return recipe


Check: TypeAlias = tuple[bool, str, object, str]
"""Whether it holds, the key, its value, what is allowed."""


def _choices(recipe: Recipe) -> list[Check]:
    choices = [
        ("objective", recipe.objective, ("pixel", "gan")),
        ("network.attention", recipe.network.attention, ("none", "se", "span")),
        ("loss.pixel_kind", recipe.loss.pixel_kind, ("l1", "mse", "charbonnier")),
        ("loss.perceptual_net", recipe.loss.perceptual_net, ("random", "ae", "vgg")),
        ("loss.adversarial_kind", recipe.loss.adversarial_kind, ("bce", "ragan", "rpgan")),
        ("discriminator.sees", recipe.discriminator.sees, ("rgb", "details")),
    ]
    return [(got in known, key, got, ", ".join(map(repr, known))) for key, got, known in choices]


def _loss_checks(recipe: Recipe) -> list[Check]:
    loss, judge, gan = recipe.loss, recipe.discriminator, recipe.objective == "gan"
    weights = {name: value for name, value in vars(loss).items() if isinstance(value, float)}
    side_px = recipe.data.patch_px * recipe.scale
    multiple = f"such that {recipe.scale} times it is a multiple of 8"
    games = ("adversarial", "balance", "feature_matching", "ldl")
    others = weights.keys() - {"adversarial", "balance", "ldl_from"}
    return [
        *((value >= 0, f"loss.{name}", value, "0 or more") for name, value in weights.items()),
        *((gan or not weights[n], f"loss.{n}", weights[n], "0 without a gan") for n in games),
        (gan or any(weights[n] for n in others), "loss", 0, "at least one weight over 0"),
        (
            not loss.balance or any(weights[n] for n in others),
            "loss.balance",
            loss.balance,
            "0 without other terms",
        ),
        (not gan or loss.adversarial > 0, "loss.adversarial", loss.adversarial, "over 0 in a gan"),
        (not gan or side_px % 8 == 0, "data.patch_px", recipe.data.patch_px, multiple),
        (judge.width >= 4, "discriminator.width", judge.width, "at least 4"),
        (judge.r1_gamma >= 0, "discriminator.r1_gamma", judge.r1_gamma, "0 or more"),
        (judge.r1_every > 0, "discriminator.r1_every", judge.r1_every, "a positive number"),
    ]


def _from_table(kind: type[T], table: dict[str, Any], source: str, prefix: str = "") -> T:
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"; did you mean '{prefix}{near[0]}'?" if near else f"; known: {sorted(hints)}"
            raise RecipeError(f"{source}: unknown key '{prefix}{key}'{hint}")
        values[key] = _checked(hints[key], value, source, f"{prefix}{key}")
    try:
        return kind(**values)
    except TypeError as error:
        missing = str(error).rpartition(": ")[2]
        raise RecipeError(f"{source}: missing {missing}") from error


def _checked(kind: type[Any], value: Any, source: str, name: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise RecipeError(f"{source}: {name} = {value!r}, expected a table")
        return _from_table(kind, value, source, f"{name}.")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        got = f"{value!r} ({type(value).__name__})"
        raise RecipeError(f"{source}: {name} = {got}, expected {kind.__name__}")
    return value
