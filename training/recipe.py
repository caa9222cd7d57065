"""A training run as a frozen value, read from TOML."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import itertools
import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """How pictures become batches."""

    patch_px: int = 48
    """Side of a low-resolution patch; the high-resolution one is `scale` times larger."""
    batch: int = 16
    """Patches per step, pictures drawn in proportion to their area."""
    pictures: str = "folder"
    """`folder` takes `--data`; `dead_leaves` generates pictures from the seed and needs none."""
    generated: int = 24
    """Number of dead-leaves pictures."""
    generated_px: int = 192
    """Their side."""
    rescale_from: float = 1.0
    """Each HR patch is first reduced by a random factor between this and 1; 1 never reduces."""
    grey: bool = False
    """Also train on pictures without colour; they are skipped and counted otherwise."""
    holdout: float = 0.02
    """Share of the pictures, chosen by a hash of their names, kept for validation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """One stage of the real-world degradation: blur, resize, noise, JPEG (arXiv:2107.10833)."""

    blur: float = 1.0
    """Probability of any blur."""
    sinc: float = 0.1
    """Probability that the blur is a sinc filter (ringing); else a kernel of `kernels`."""
    kernels: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    """Weights of isotropic and anisotropic Gaussian, generalised Gaussian, plateau kernels."""
    blur_sigma_px: tuple[float, float] = (0.2, 3.0)
    """Range of the kernels' standard deviations."""
    generalised_shape: tuple[float, float] = (0.5, 4.0)
    """Range of the generalised Gaussian's exponent; 1 is the Gaussian."""
    plateau_shape: tuple[float, float] = (1.0, 2.0)
    """Range of the plateau kernel's exponent."""
    resize: tuple[float, ...] = (0.2, 0.7, 0.1)
    """Weights of enlarging, reducing and keeping the size."""
    resize_range: tuple[float, float] = (0.15, 1.5)
    """Smallest and largest factor."""
    gaussian: float = 0.5
    """Probability that the noise is Gaussian; else it is Poisson."""
    gaussian_sigma: tuple[float, float] = (1.0, 30.0)
    """Range of its standard deviation, in levels of 255."""
    poisson_scale: tuple[float, float] = (0.05, 3.0)
    """Range of the factor on Poisson noise."""
    grey_noise: float = 0.4
    """Probability that the three channels share one noise."""
    jpeg_quality: tuple[float, float] = (30.0, 95.0)
    """Range of the JPEG quality."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondStageRecipe(StageRecipe):
    """The second stage has the same keys and milder defaults."""

    blur: float = 0.8
    blur_sigma_px: tuple[float, float] = (0.2, 1.5)
    resize: tuple[float, ...] = (0.3, 0.4, 0.3)
    resize_range: tuple[float, float] = (0.3, 1.2)
    gaussian_sigma: tuple[float, float] = (1.0, 25.0)
    poisson_scale: tuple[float, float] = (0.05, 2.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DegradationRecipe:
    """What makes a low-resolution patch of a high-resolution one."""

    kind: str = "bicubic"
    """`bicubic` is MATLAB's reduction; `realworld` the second-order model below."""
    kernel_px: tuple[int, int] = (7, 21)
    """Smallest and largest side of a blur kernel; sides are odd."""
    final_sinc: float = 0.8
    """Probability of a sinc filter at the end."""
    first: StageRecipe = StageRecipe()
    """The first stage."""
    second: SecondStageRecipe = SecondStageRecipe()
    """The second stage."""


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
    """Of the degrader and the discriminator."""
    content: float = 1.0
    """Weight of the low-frequency distance between the degrader's picture and the bicubic one."""
    domain: float = 0.05
    """Weight of the adversarial loss between generated and real low-resolution pictures."""
    content_px: int = 7
    """Side of the box that defines low frequencies."""


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
    """Upscaling factor: 2, 3 or 4."""
    family: str = "gan"
    """`gan`; this stage of it minimises the pixel loss (L1)."""
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
    data: DataRecipe = DataRecipe()
    """The batches."""
    optimiser: OptimiserRecipe = OptimiserRecipe()
    """The optimiser and its schedule."""
    degradation: DegradationRecipe = DegradationRecipe()
    """How low-resolution patches are made."""
    unpaired: UnpairedRecipe = UnpairedRecipe()
    """Only read in that mode."""

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain dicts, as written into checkpoints."""
        return dataclasses.asdict(self)


def to_toml(recipe: Recipe) -> str:
    """Return every value as TOML, each under its explanation."""
    return "\n".join(_toml_lines(recipe, "")) + "\n"


def _toml_lines(table: Any, prefix: str) -> list[str]:
    explained = _explanations(type(table))
    plain, tables = [], []
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        comment = [f"# {line.strip()}" for line in explained.get(field.name, "").splitlines()]
        if dataclasses.is_dataclass(value):
            name = f"{prefix}{field.name}"
            tables += ["", *comment, f"[{name}]", *_toml_lines(value, f"{name}.")]
        else:
            # JSON's strings, numbers, booleans and arrays are TOML's
            plain += [*comment, f"{field.name} = {json.dumps(value)}"]
    return plain + tables


def _explanations(kind: type[Any]) -> dict[str, str]:
    """Return the string under each field of a dataclass, its bases' first."""
    found = {}
    for base in reversed(kind.__mro__[:-1]):
        body = cast(ast.ClassDef, ast.parse(inspect.getsource(base)).body[0]).body
        for field, text in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = str(text.value.value)
    return found


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
    checks = [
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
    ]
    for holds, key, got, allowed in [*checks, *_data_checks(recipe)]:
        if not holds:
            raise RecipeError(f"{source}: {key} = {got!r}, allowed: {allowed}")
    return recipe


def _data_checks(recipe: Recipe) -> list[tuple[bool, str, Any, str]]:
    """What must hold for `mode`, `data` and `degradation`: (holds, key, value, allowed)."""
    data, made = recipe.data, recipe.degradation
    modes = ("selfsup", "paired", "unpaired", "adapt")
    low, high = made.kernel_px
    checks = [
        (recipe.mode in modes, "mode", recipe.mode, f"one of {', '.join(modes)}"),
        (recipe.check_step >= 0, "check_step", recipe.check_step, "0 or more"),
        (
            data.pictures in ("folder", "dead_leaves"),
            "data.pictures",
            data.pictures,
            "'folder' or 'dead_leaves'",
        ),
        (data.generated > 0, "data.generated", data.generated, "a positive number"),
        (0 < data.rescale_from <= 1, "data.rescale_from", data.rescale_from, "0 < factor <= 1"),
        (0 <= data.holdout < 1, "data.holdout", data.holdout, "0 <= share < 1"),
        (
            made.kind in ("bicubic", "realworld"),
            "degradation.kind",
            made.kind,
            "'bicubic' or 'realworld'",
        ),
        (
            3 <= low <= high and low % 2 == high % 2 == 1,
            "degradation.kernel_px",
            made.kernel_px,
            "two odd numbers, 3 or more, the smaller one first",
        ),
    ]
    for name, stage in (("first", made.first), ("second", made.second)):
        checks += _stage_checks(f"degradation.{name}", stage)
    return checks


def _stage_checks(prefix: str, stage: StageRecipe) -> list[tuple[bool, str, Any, str]]:
    checks = []
    for field in dataclasses.fields(stage):
        name, value = f"{prefix}.{field.name}", getattr(stage, field.name)
        if isinstance(value, float):
            checks.append((0 <= value <= 1, name, value, "a probability"))
        elif field.name in ("kernels", "resize"):
            count = 6 if field.name == "kernels" else 3
            fine = len(value) == count and min(value) >= 0 and sum(value) > 0
            checks.append((fine, name, value, f"{count} weights"))
        else:
            fine = 0 < value[0] <= value[1]
            checks.append((fine, name, value, "two positive numbers, the smaller one first"))
    return checks


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
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise RecipeError(f"{source}: {name} = {value!r}, expected an array")
        kinds = get_args(kind)
        if kinds[-1] is not Ellipsis and len(kinds) != len(value):
            raise RecipeError(f"{source}: {name} = {value!r}, expected {len(kinds)} values")
        return tuple(_checked(kinds[0], each, source, name) for each in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        got = f"{value!r} ({type(value).__name__})"
        raise RecipeError(f"{source}: {name} = {got}, expected {kind.__name__}")
    return value
