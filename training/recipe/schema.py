"""The recipe: all settings of a training run as a frozen dataclass, read from TOML."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from training.recipe import losses
from training.recipe.data import DataRecipe, DegradationRecipe, UnpairedRecipe
from training.recipe.families import (
    AeRecipe,
    Check,
    CorruptRecipe,
    NoisyRecipe,
    SmallRecipe,
    VaeRecipe,
)
from training.recipe.losses import DiscriminatorRecipe, LossRecipe
from training.recipe.table import RecipeError, from_table, read_toml

__all__ = [
    "NetworkRecipe",
    "OptimizerRecipe",
    "Recipe",
    "RecipeError",
    "read_recipe",
    "recipe_from_dict",
]

FAMILIES = ("gan", "ae", "vae")


LARGEST_SIZE = 4096
"""Of a width, a depth or a latent."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkRecipe:
    """The plain network: `depth` convolutions `width -> width` between a head and a tail."""

    width: int = 32
    """Channels of the body; 32 and 64 suit INT8 tensor layouts."""
    depth: int = 8
    """Number of 3x3 convolutions between head and tail."""
    colors: int = 3
    """3: RGB. 1: luma only, for video: color is enlarged by bicubic interpolation."""
    attention: str = "none"
    """Attention after every second convolution of the body: `none`, `se` (squeeze and excitation,
    global) or `span` (parameter-free). Products of feature maps do not survive INT8."""
    reparam: bool = False
    """Train each convolution as the sum of a 3x3, 1x3, 3x1 and 1x1 one; merged before export."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerRecipe:
    """AdamW without weight decay, or Muon; plain nets need a high learning rate and warm-up."""

    kind: str = "adamw"
    """`adamw`, or `muon`: kernels are updated by orthogonal matrices, which saves plain nets half
    of the steps and more; vectors by AdamW. Discriminators always use AdamW."""
    learning_rate: float = 2e-3
    """Peak, reached after `warm_up` steps; decays as a cosine to `final_fraction` of it."""
    final_fraction: float = 0.01
    """Learning rate of the last step, relative to the peak."""
    warm_up: int = 200
    """Steps of linear warm-up."""
    beta1: float = 0.9
    """Decay of the gradient's running mean."""
    beta2: float = 0.99
    """Decay of the squared gradient's running mean."""
    clip_norm: float = 1.0
    """Largest global gradient norm."""
    ema: float = 0.999
    """Decay of the averaged weights, which are evaluated and shipped."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run."""

    name: str
    """Name of the model, also its file name."""
    scale: int
    """Upscaling factor: 2, 3 or 4; families `ae` and `vae`: also 1."""
    family: str = "gan"
    """`gan`, `ae` or `vae`."""
    objective: str = "pixel"
    """Family `gan`: `pixel` (fidelity) or `gan` (texture too; start it from a `pixel` run)."""
    steps: int = 10_000
    """Optimizer steps."""
    seed: int = 0
    """Seed of initialization, patches and flips."""
    bf16: bool = True
    """Run convolutions under bfloat16 autocast, on devices that compute it faster than float32;
    anchor and loss stay in float32."""
    mode: str = "selfsup"
    """`selfsup`: HR pictures only. `paired`: `--lr` holds their LR counterparts. `unpaired`: `--lr`
    holds real LR pictures of other scenes. `noisy`, for family `ae` at x1: `--data` holds noisy
    pictures, and no clean one is needed. `adapt`: `--data` holds LR pictures, or `--lr` does and
    `--data` holds sharp pictures of other scenes; needs `--start-from`."""
    check_step: int = 500
    """The run stops at this step if the net is over 0.5 dB below bicubic; 0: no check."""
    evaluate_every: int = 2_000
    """Steps between evaluations."""
    save_every: int = 1_000
    """Steps between checkpoints; a killed run loses at most this many."""
    network: NetworkRecipe = NetworkRecipe()
    """The architecture."""
    data: DataRecipe = dataclasses.field(default_factory=DataRecipe)
    """The training data."""
    optimizer: OptimizerRecipe = OptimizerRecipe()
    """The optimizer and its schedule."""
    loss: LossRecipe = dataclasses.field(default_factory=LossRecipe)
    """The loss terms of family `gan`."""
    discriminator: DiscriminatorRecipe = dataclasses.field(default_factory=DiscriminatorRecipe)
    """The discriminator, for `objective = "gan"`."""
    ae: AeRecipe = dataclasses.field(default_factory=AeRecipe)
    """Family `ae`."""
    vae: VaeRecipe = dataclasses.field(default_factory=VaeRecipe)
    """Family `vae`."""
    small: SmallRecipe = dataclasses.field(default_factory=SmallRecipe)
    """The textbook models for small pictures."""
    corrupt: CorruptRecipe = dataclasses.field(default_factory=CorruptRecipe)
    """Damage to the input, to be removed."""
    degradation: DegradationRecipe = dataclasses.field(default_factory=DegradationRecipe)
    """How low-resolution patches are made."""
    noisy: NoisyRecipe = dataclasses.field(default_factory=NoisyRecipe)
    """Settings of mode `noisy`; ignored in other modes."""
    unpaired: UnpairedRecipe = dataclasses.field(default_factory=UnpairedRecipe)
    """Settings of mode `unpaired`; ignored in other modes."""

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain dicts, as written into checkpoints."""
        return dataclasses.asdict(self)


def read_recipe(path: Path) -> Recipe:
    """Read and check one TOML recipe.

    Raises:
        RecipeError: not TOML, an unknown key (the message suggests the nearest known one), a wrong
            type or an invalid value.
    """
    return recipe_from_dict(read_toml(path), source=str(path))


def recipe_from_dict(table: dict[str, Any], *, source: str) -> Recipe:
    """Build a recipe from plain dicts; `source` begins every error message."""
    recipe = from_table(Recipe, table, source)
    checks = [
        (recipe.family in FAMILIES, "family", recipe.family, " or ".join(map(repr, FAMILIES))),
        *_family_checks(recipe),
        _known("objective", recipe.objective, ("pixel", "gan")),
        _known("optimizer.kind", recipe.optimizer.kind, ("adamw", "muon")),
        _known("network.attention", recipe.network.attention, ("none", "se", "span")),
        *losses.checks(
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
        (_colors_fit(recipe), "network.colors", recipe.network.colors, _COLORS),
        (0 <= recipe.optimizer.ema < 1, "optimizer.ema", recipe.optimizer.ema, "0 <= ema < 1"),
    ]
    for passed, key, got, allowed in [*checks, *_mode_checks(recipe), *_size_checks(recipe)]:
        if not passed:
            raise RecipeError(f"{source}: {key} = {got!r}, allowed: {allowed}")
    return recipe


_COLORS = "3, or 1 in family 'gan' with objective 'pixel', mode 'selfsup' or 'paired', no luma term"


def _colors_fit(recipe: Recipe) -> bool:
    luma = recipe.family == "gan" and recipe.objective == "pixel" and recipe.loss.luma == 0
    paired = recipe.mode in ("selfsup", "paired")
    return recipe.network.colors == 3 or (recipe.network.colors == 1 and luma and paired)


def _size_checks(recipe: Recipe) -> list[Check]:
    """Bound what a network is built from: the recipe may be that of a damaged checkpoint."""
    tables = {"network": recipe.network, "ae": recipe.ae, "vae": recipe.vae, "small": recipe.small}
    sizes = {
        f"{name}.{key}": value
        for name, table in tables.items()
        for key, value in vars(table).items()
        if type(value) is int
    }
    return [(v <= LARGEST_SIZE, key, v, f"at most {LARGEST_SIZE}") for key, v in sizes.items()]


def _known(key: str, got: str, known: tuple[str, ...]) -> Check:
    return (got in known, key, got, ", ".join(map(repr, known)))


def _family_checks(recipe: Recipe) -> list[Check]:
    """Return the checks of the family tables, alone and against the rest of the recipe."""
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
            "true only at scale 1 with loss = 'l1'",
        ),
        *recipe.vae.checks(),
        *recipe.small.checks(),
        *recipe.corrupt.checks(),
    ]


def _mode_checks(recipe: Recipe) -> list[Check]:
    modes = ("selfsup", "paired", "unpaired", "adapt", "noisy")
    return [
        (recipe.mode in modes, "mode", recipe.mode, f"one of {', '.join(modes)}"),
        (recipe.check_step >= 0, "check_step", recipe.check_step, "0 or more"),
        *recipe.data.checks(),
        *recipe.degradation.checks(),
        *recipe.noisy.checks(),
        *(_noisy_checks(recipe) if recipe.mode == "noisy" else ()),
        (
            recipe.degradation.kind != "estimated" or recipe.mode == "adapt",
            "degradation.kind",
            recipe.degradation.kind,
            "'estimated' only in mode 'adapt'",
        ),
        (
            not recipe.data.color_changes or _reduced_once(recipe),
            "data.color_changes",
            recipe.data.color_changes,
            "true only in the modes 'selfsup' and 'adapt', with plain bicubic inputs",
        ),
        (
            not recipe.loss.teacher or _ready_pairs(recipe),
            "loss.teacher",
            recipe.loss.teacher,
            "over 0 only in mode 'selfsup' of family 'gan', with plain bicubic inputs",
        ),
    ]


def _noisy_checks(recipe: Recipe) -> list[Check]:
    """Refuse what would change the noise of the pictures, or needs clean ones."""
    where, ae, data = "in mode 'noisy'", recipe.ae, recipe.data
    right = recipe.family == "ae" and recipe.scale == 1 and not recipe.small.on
    as_it_is = data.rescale_from == 1 and not data.reduced_copies and data.pictures == "folder"
    return [
        (right, "mode", recipe.mode, "'noisy' only for family 'ae' at scale 1"),
        (data.patch_px % 16 == 0, "data.patch_px", data.patch_px, f"a multiple of 16 {where}"),
        (as_it_is, "data", "changed pictures", f"pictures of a folder at their own size {where}"),
        (not recipe.corrupt.on, "corrupt", "on", f"off {where}: the pictures are damaged already"),
        (not ae.levels and not ae.relative, "ae", "levels or relative", f"neither {where}"),
    ]


def _ready_pairs(recipe: Recipe) -> bool:
    """Whether all inputs are known before the run, so that a teacher can process them."""
    clean = recipe.mode == "selfsup" and not recipe.corrupt.on
    return _reduced_once(recipe) and recipe.family == "gan" and clean


def _reduced_once(recipe: Recipe) -> bool:
    """Whether inputs are bicubic reductions, made before the run."""
    fixed = recipe.data.rescale_from == 1 and recipe.degradation.kind == "bicubic"
    return fixed and recipe.mode in ("selfsup", "adapt")
