"""The training loop, read from top to bottom."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training import checkpoint, corrupt, distributed, health, networks, objectives, optim
from training.board import Board
from training.data import Batch, Pair, Patches, Source
from training.evaluate import Score, network, score
from training.objectives import Objective
from training.recipe import Recipe, recipe_from_dict

TrainingError = health.TrainingError
log = logging.getLogger(__name__)

LAST = "last.safetensors"
WEIGHTS = "weights.safetensors"
JOURNAL = "log.jsonl"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Progress:
    """What a run tells its caller after every step."""

    step: int
    steps: int
    loss: float
    seconds_per_step: float


def train(
    recipe: Recipe,
    source: Source | Sequence[Pair],
    out: Path,
    *,
    tests: Mapping[str, Sequence[Pair]] | None = None,
    holdout: Sequence[Pair] = (),
    start_from: Path | None = None,
    on_step: Callable[[Progress], None] | None = None,
    device: torch.device = CPU,
    board: Board | None = None,
    objective: Objective | None = None,
) -> Path:
    """Train one network and return the path of its averaged weights.

    What is minimised is the objective's business (`training.objectives`). A run continues from
    `out/last.safetensors` where there is one, bit for bit as if it had never stopped.

    Args:
        recipe: what to do.
        source: of batches (`training.sources`); pairs stand for random patches of them.
        out: folder of the run; made if missing.
        tests: folders by name, scored every `recipe.evaluate_every` steps and at the end.
        holdout: training pictures that `source` leaves out; scored as `validation`, and what the
            early check looks at (`recipe.check_step`).
        start_from: weights of a trained net to begin with (same scale, or a divisor of it; a plain
            net also takes those of a narrower or a shallower one).
        on_step: called after every step.
        device: where to compute.
        board: takes losses, scores and sample pictures whenever there is an evaluation.
        objective: another one than the recipe's, on `device`.

    Raises:
        TrainingError: a loss is not finite, the early check failed, `out` holds a run of another
            recipe, or there is nothing to score.
        checkpoint.CheckpointError: a damaged checkpoint.
    """
    _check_tests(recipe, tests or {})
    torch.manual_seed(recipe.seed)
    if objective is None:
        with device:
            objective = objectives.build(recipe)
    source = _damaged_source(source, recipe)
    if recipe.small.on:
        holdout = ()  # of any size, but these networks know one
    clean = {**({"validation": holdout} if holdout else {}), **(tests or {})}
    sets = corrupt.versions_of(clean, recipe.corrupt)
    step = 0
    if start_from is not None and not (out / LAST).exists():
        networks.warm_start(objective.network, load_weights(start_from)[0])
    ema = copy.deepcopy(objective.network).eval()
    if (out / LAST).exists():
        step = _resume(out / LAST, recipe, objective, ema, source)
        log.info("continuing at step %d", step)
    began, first_step = time.perf_counter(), step

    while step < recipe.steps:
        batch = _on(source.draw(), device)
        losses = distributed.mean(objective.step(batch, step), device)
        optim.average(ema, objective.network, recipe.optimiser.ema, step)
        step += 1
        health.check_finite(losses, step)
        if step == recipe.check_step:
            health.check_against_bicubic(objective.network, holdout, recipe.scale, step)
        if on_step is not None:
            seconds = (time.perf_counter() - began) / (step - first_step)
            on_step(Progress(step, recipe.steps, losses["loss"], seconds))
        last = step == recipe.steps
        if distributed.is_first() and (step % recipe.evaluate_every == 0 or last):
            _evaluate(out, step, losses, ema, sets, recipe.scale, board)
        if distributed.is_first() and (step % recipe.save_every == 0 or last):
            _save(out / LAST, recipe, step, objective, ema, source)

    facts = {"recipe": recipe.to_dict(), "step": step}
    if distributed.is_first():
        checkpoint.save(out / WEIGHTS, ema.state_dict(), facts)
    return out / WEIGHTS


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the averaged weights in a run's `weights` or `last` file, or packed, and its facts.

    What `python -m training pack` stored as float16 comes back as float32.
    """
    tensors, facts = checkpoint.load(path)
    tensors = checkpoint.without_prefix("ema", tensors) or tensors
    return {n: t.float() if t.dtype == torch.half else t for n, t in tensors.items()}, facts


def _damaged_source(source: Source | Sequence[Pair], recipe: Recipe) -> Source:
    shard = distributed.shard()
    if isinstance(source, Sequence):
        data = recipe.data
        source = Patches(list(source), data.patch_px, data.batch, recipe.seed, shard)
    return corrupt.wrap(source, recipe, shard)


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


def _on(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    there = {name: value for name, value in vars(batch).items() if value is not None}
    moved = {name: value.to(device, non_blocking=True) for name, value in there.items()}
    return type(batch)(**moved)


def _evaluate(
    out: Path,
    step: int,
    losses: Mapping[str, float],
    ema: nn.Module,
    sets: Mapping[str, Sequence[Pair]],
    scale: int,
    board: Board | None,
) -> None:
    scores = {name: score(network(ema), pairs, scale) for name, pairs in sets.items()}
    _journal(out, step, losses, scores)
    if board is not None:
        shown = [pair for pairs in sets.values() for pair in pairs]
        board.add(step, losses, scores, ema, shown)


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
    path: Path, recipe: Recipe, step: int, objective: Objective, ema: nn.Module, source: Source
) -> None:
    tensors = {
        **checkpoint.prefixed("objective", objective.tensors()),
        **checkpoint.prefixed("ema", ema.state_dict()),
        "random.torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    facts = {"recipe": recipe.to_dict(), "step": step, "patches": source.state()}
    checkpoint.save(path, tensors, facts)


def _resume(
    path: Path, recipe: Recipe, objective: Objective, ema: nn.Module, source: Source
) -> int:
    tensors, facts = checkpoint.load(path)
    # read as a recipe: one that was saved before a key existed means that key's default
    if recipe_from_dict(facts["recipe"], source=str(path)) != recipe:
        raise TrainingError(f"{path} belongs to another recipe; choose another --out or delete it")
    objective.restore(checkpoint.without_prefix("objective", tensors))
    ema.load_state_dict(checkpoint.without_prefix("ema", tensors))
    torch.set_rng_state(tensors["random.torch"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])
    source.restore(facts["patches"])
    return int(facts["step"])
