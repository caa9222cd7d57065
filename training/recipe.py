"""A training run as a frozen value, read from TOML."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from training import loss_recipes
from training.data_recipes import DataRecipe, DegradationRecipe, UnpairedRecipe
from training.family_recipes import AeRecipe, Check, CorruptRecipe, SmallRecipe, VaeRecipe
from training.loss_recipes import DiscriminatorRecipe, LossRecipe

T = TypeVar("T")

FAMILIES = ("gan", "ae", "vae")


LARGEST = sys.float_info.max


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
class Recipe:
    """One training run."""

    name: str
    """Name of the model; becomes the file's name."""
    scale: int
    """Upscaling factor: 2, 3 or 4; families `ae` and `vae`: also 1."""
    family: str = "gan"
    """`gan`, `ae` or `vae`."""
    objective: str = "pixel"
    """Of family `gan`: `pixel` (fidelity) or `gan` (texture too; start it from a `pixel` run)."""
    steps: int = 10_000
    """Optimiser steps."""
    seed: int = 0
    """Of initialisation, patches and flips."""
    bf16: bool = True
    """Convolutions in bfloat16 autocast; anchor and loss stay in float32."""
    mode: str = "selfsup"
    """`selfsup`: HR pictures only. `paired`: `--lr` holds their twins. `unpaired`: `--lr` holds
    other pictures as they come. `adapt`: `--data` holds LR pictures, `--start-from` a net."""
    check_step: int = 500
    """After so many steps the net must be within 0.5 dB of bicubic or the run stops; 0 never."""
    evaluate_every: int = 2_000
    """Steps between evaluations."""
    save_every: int = 1_000
    """Steps between checkpoints; a killed run loses at most these."""
    network: NetworkRecipe = NetworkRecipe()
    """The architecture."""
    data: DataRecipe = dataclasses.field(default_factory=DataRecipe)
    """The batches."""
    optimiser: OptimiserRecipe = OptimiserRecipe()
    """The optimiser and its schedule."""
    loss: LossRecipe = dataclasses.field(default_factory=LossRecipe)
    """The terms of the loss of family `gan`."""
    discriminator: DiscriminatorRecipe = dataclasses.field(default_factory=DiscriminatorRecipe)
    """The judge, for `objective = "gan"`."""
    ae: AeRecipe = dataclasses.field(default_factory=AeRecipe)
    """Family `ae`."""
    vae: VaeRecipe = dataclasses.field(default_factory=VaeRecipe)
    """Family `vae`."""
    small: SmallRecipe = dataclasses.field(default_factory=SmallRecipe)
    """The textbook forms on small pictures."""
    corrupt: CorruptRecipe = dataclasses.field(default_factory=CorruptRecipe)
    """Damage to be undone."""
    degradation: DegradationRecipe = dataclasses.field(default_factory=DegradationRecipe)
    """How low-resolution patches are made."""
    unpaired: UnpairedRecipe = dataclasses.field(default_factory=UnpairedRecipe)
    """Only read in that mode."""

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain dicts, as written into checkpoints."""
        return dataclasses.asdict(self)


def read_recipe(path: Path) -> Recipe:
    """Read and check one TOML recipe.

    Raises:
        RecipeError: not TOML, an unknown key (the nearest known one is named), a wrong type or an
            impossible value.
    """
    return recipe_from_dict(read_toml(path), source=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Read one TOML file.

    Raises:
        RecipeError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder, expected a .toml file") from None
    except (ValueError, RecursionError) as error:
        # no TOML, no UTF-8, a number of thousands of digits, thousands of brackets
        raise RecipeError(f"{path}: not TOML: {error}") from error


def recipe_from_dict(table: dict[str, Any], *, source: str) -> Recipe:
    """Build a recipe from plain dicts; `source` begins every error message."""
    recipe = from_table(Recipe, table, source)
    checks = [
        (recipe.family in FAMILIES, "family", recipe.family, " or ".join(map(repr, FAMILIES))),
        *_family_checks(recipe),
        _known("objective", recipe.objective, ("pixel", "gan")),
        _known("network.attention", recipe.network.attention, ("none", "se", "span")),
        *loss_recipes.checks(
            recipe.loss,
            recipe.discriminator,
            gan=recipe.objective == "gan",
            patch_px=recipe.data.patch_px,
            scale=recipe.scale,
        ),
        (recipe.steps > 0, "steps", recipe.steps, "a positive number"),
        (recipe.save_every > 0, "save_every", recipe.save_every, "a positive number"),
        (recipe.evaluate_every > 0, "evaluate_every", recipe.evaluate_every, "a positive number"),
        (recipe.data.batch > 0, "data.batch", recipe.data.batch, "a positive number"),
        (recipe.data.patch_px >= 8, "data.patch_px", recipe.data.patch_px, "at least 8"),
        (recipe.network.width >= 4, "network.width", recipe.network.width, "at least 4"),
        (recipe.network.depth >= 1, "network.depth", recipe.network.depth, "at least 1"),
        (0 <= recipe.optimiser.ema < 1, "optimiser.ema", recipe.optimiser.ema, "0 <= ema < 1"),
    ]
    for holds, key, got, allowed in [*checks, *_mode_checks(recipe)]:
        if not holds:
            raise RecipeError(f"{source}: {key} = {got!r}, allowed: {allowed}")
    return recipe


def _known(key: str, got: str, known: tuple[str, ...]) -> Check:
    return (got in known, key, got, ", ".join(map(repr, known)))


def _family_checks(recipe: Recipe) -> list[Check]:
    """Return what must hold of the tables of the families, and between them and the rest."""
    side = recipe.data.patch_px - recipe.corrupt.trim_px
    scales = [2, 3, 4] if recipe.family == "gan" else [1, 2, 3, 4]
    if recipe.small.on:
        scales = [1]
    *most, last = map(str, scales)
    eighths = recipe.family == "ae" or recipe.small.on
    return [
        (
            recipe.scale in scales,
            "scale",
            recipe.scale,
            f"{', '.join(most)} or {last}" if most else last,
        ),
        (
            not eighths or (side % 8 == 0 and side > 0),
            "data.patch_px",
            recipe.data.patch_px,
            f"a multiple of 8, plus {recipe.corrupt.trim_px}",
        ),
        *recipe.ae.checks(),
        (
            not recipe.ae.relative or (recipe.scale == 1 and recipe.ae.loss == "l1"),
            "ae.relative",
            recipe.ae.relative,
            "true at scale 1 with loss = 'l1' only",
        ),
        *recipe.vae.checks(),
        *recipe.small.checks(),
        *recipe.corrupt.checks(),
    ]


def _mode_checks(recipe: Recipe) -> list[Check]:
    modes = ("selfsup", "paired", "unpaired", "adapt")
    return [
        (recipe.mode in modes, "mode", recipe.mode, f"one of {', '.join(modes)}"),
        (recipe.check_step >= 0, "check_step", recipe.check_step, "0 or more"),
        *recipe.data.checks(),
        *recipe.degradation.checks(),
        (
            not recipe.loss.teacher or _ready_pairs(recipe),
            "loss.teacher",
            recipe.loss.teacher,
            "over 0 in mode 'selfsup' of family 'gan' with bicubic inputs as they are only",
        ),
    ]


def _ready_pairs(recipe: Recipe) -> bool:
    """Whether every input exists before the run, so that a teacher can have seen it."""
    whole = recipe.data.rescale_from == 1 and recipe.degradation.kind == "bicubic"
    return whole and recipe.family == "gan" and recipe.mode == "selfsup" and not recipe.corrupt.on


def from_table(kind: type[T], table: dict[str, Any], source: str, prefix: str = "") -> T:
    """Fill a dataclass from a table; `source` begins every error message.

    Raises:
        RecipeError: an unknown or a missing key, a wrong type.
    """
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
        return from_table(kind, value, source, f"{name}.")
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{source}: {name} = {value!r}, expected an array")
        kinds = get_args(kind)
        if kinds[-1] is not Ellipsis and len(kinds) != len(value):
            raise RecipeError(f"{source}: {name} = {value!r}, expected {len(kinds)} values")
        return tuple(_checked(kinds[0], each, source, name) for each in value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= LARGEST:
            raise RecipeError(f"{source}: {name} = {value!r}, expected a finite number")
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        got = f"{value!r} ({type(value).__name__})"
        raise RecipeError(f"{source}: {name} = {got}, expected {kind.__name__}")
    return value
