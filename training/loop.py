"""The training loop, read from top to bottom."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training import checkpoint, corrupt, networks, objectives, optim
from training.corrupt import Source
from training.data import Pair, Patches
from training.evaluate import Score, network, score
from training.objectives import Objective
from training.recipe import Recipe

log = logging.getLogger(__name__)

LAST = "last.safetensors"
WEIGHTS = "weights.safetensors"
JOURNAL = "log.jsonl"


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says at which step and why."""


@dataclass(frozen=True)
class Progress:
    """What a run tells its caller after every step."""

    step: int
    steps: int
    loss: float
    seconds_per_step: float


def train(
    recipe: Recipe,
    pairs: Sequence[Pair],
    out: Path,
    *,
    tests: Mapping[str, Sequence[Pair]] | None = None,
    start_from: Path | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train one network and return the path of its averaged weights.

    What is minimised is the objective's business (`training.objectives`). A run continues from
    `out/last.safetensors` where there is one, bit for bit as if it had never stopped.

    Args:
        recipe: what to do.
        pairs: training pictures with their low-resolution twins, made for `recipe.scale`.
        out: folder of the run; made if missing.
        tests: folders by name, scored every `recipe.evaluate_every` steps and at the end.
        start_from: weights of a trained net to begin with (same scale, or a divisor of it).
        on_step: called after every step.

    Raises:
        TrainingError: a loss is not finite, `out` holds a run of another recipe, or there is
            nothing to score.
        checkpoint.CheckpointError: a damaged checkpoint.
    """
    _check_tests(recipe, tests or {})
    torch.manual_seed(recipe.seed)
    objective = objectives.build(recipe)
    clean = Patches(list(pairs), recipe.data.patch_px, recipe.data.batch, recipe.seed)
    patches = corrupt.wrap(clean, recipe)
    tests = corrupt.versions_of(tests or {}, recipe.corrupt)
    step = 0
    if start_from is not None and not (out / LAST).exists():
        networks.warm_start(objective.network, load_weights(start_from)[0])
    ema = copy.deepcopy(objective.network).eval()
    if (out / LAST).exists():
        step = _resume(out / LAST, recipe, objective, ema, patches)
        log.info("continuing at step %d", step)
    began, first_step = time.perf_counter(), step

    while step < recipe.steps:
        losses = objective.step(patches.draw(), step)
        optim.average(ema, objective.network, recipe.optimiser.ema, step)
        step += 1
        _check_finite(losses, step)
        if on_step is not None:
            seconds = (time.perf_counter() - began) / (step - first_step)
            on_step(Progress(step, recipe.steps, losses["loss"], seconds))
        if step % recipe.evaluate_every == 0 or step == recipe.steps:
            _journal(out, step, losses, _scores(ema, tests, recipe.scale))
        if step % recipe.save_every == 0 or step == recipe.steps:
            _save(out / LAST, recipe, step, objective, ema, patches)

    facts = {"recipe": recipe.to_dict(), "step": step}
    checkpoint.save(out / WEIGHTS, ema.state_dict(), facts)
    return out / WEIGHTS


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the averaged weights in a run's `weights` or `last` file, and its facts."""
    tensors, facts = checkpoint.load(path)
    return checkpoint.without_prefix("ema", tensors) or tensors, facts


def _check_tests(recipe: Recipe, tests: Mapping[str, Sequence[Pair]]) -> None:
    """Refuse folders that the textbook forms on small pictures cannot be scored on."""
    if not recipe.small.on:
        return
    if tests and recipe.family == "gan":
        raise TrainingError(
            "a generator's pictures have no truth to be scored on: leave --test out"
        )
    size = (recipe.data.patch_px, recipe.data.patch_px)
    for name, pairs in tests.items():
        for pair in pairs:
            if pair.hr.shape[:2] != size:
                raise TrainingError(
                    f"test folder {name}: {pair.name} is {pair.hr.shape[:2]}, expected {size}"
                )


def _check_finite(losses: Mapping[str, float], step: int) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise TrainingError(f"step {step}: {name} is {value}; lower the learning rate")


def _scores(ema: nn.Module, tests: Mapping[str, Sequence[Pair]], scale: int) -> dict[str, Score]:
    return {name: score(network(ema), pairs, scale) for name, pairs in tests.items()}


def _journal(
    out: Path, step: int, losses: Mapping[str, float], scores: Mapping[str, Score]
) -> None:
    line = {"step": step, **losses, **{name: asdict(value) for name, value in scores.items()}}
    out.mkdir(parents=True, exist_ok=True)
    with (out / JOURNAL).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    shown = [f"{name} {value:.5f}" for name, value in losses.items()]
    shown += [f"{name} {value}" for name, value in scores.items()]
    log.info("step %d  %s", step, "  ".join(shown))


def _save(
    path: Path, recipe: Recipe, step: int, objective: Objective, ema: nn.Module, patches: Source
) -> None:
    tensors = {
        **checkpoint.prefixed("objective", objective.tensors()),
        **checkpoint.prefixed("ema", ema.state_dict()),
        "random.torch": torch.get_rng_state(),
    }
    facts = {"recipe": recipe.to_dict(), "step": step, "patches": patches.state()}
    checkpoint.save(path, tensors, facts)


def _resume(
    path: Path, recipe: Recipe, objective: Objective, ema: nn.Module, patches: Source
) -> int:
    tensors, facts = checkpoint.load(path)
    if facts["recipe"] != recipe.to_dict():
        raise TrainingError(f"{path} belongs to another recipe; choose another --out or delete it")
    objective.restore(checkpoint.without_prefix("objective", tensors))
    ema.load_state_dict(checkpoint.without_prefix("ema", tensors))
    torch.set_rng_state(tensors["random.torch"])
    patches.restore(facts["patches"])
    return int(facts["step"])
