"""The training loop: draw a batch, take a step, average, evaluate, save."""

from __future__ import annotations

import copy
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from training import checkpoint, distributed, early_checks, networks, objectives, optimizers
from training.data import corruption
from training.data.pictures import Batch, Pair, Patches, Source
from training.evaluation.evaluate import Score, network, score
from training.networks.layers import bf16_is_fast
from training.objectives import Objective
from training.recipe.schema import Recipe, recipe_from_dict
from training.tensorboard import Board

TrainingError = early_checks.TrainingError
log = logging.getLogger(__name__)

LAST = "last.safetensors"
WEIGHTS = "weights.safetensors"
JOURNAL = "log.jsonl"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Progress:
    """State of a run, passed to `on_step` after every step."""

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

    The objective defines the loss (`training.objectives`). If `out/last.safetensors` exists, the
    run resumes from it, bit for bit as if it had never stopped.

    Args:
        recipe: the settings of the run.
        source: batches (`training.data.batches`), or pairs to draw random patches from.
        out: folder of the run; created if missing.
        tests: test sets by name, scored every `recipe.evaluate_every` steps and at the end.
        holdout: pairs that are not in `source`; scored as `validation` and used by the early check
            (`recipe.check_step`).
        start_from: initial weights of a trained net (same scale, or a divisor of it; a plain net
            also accepts those of a narrower or a shallower one).
        on_step: called after every step.
        device: where to compute.
        board: receives losses, scores and sample pictures at every evaluation.
        objective: replaces the recipe's objective; must be on `device`.

    Raises:
        TrainingError: a loss is not finite, the early check failed, `out` holds a run of another
            recipe, or `tests` cannot be scored.
        checkpoint.CheckpointError: a checkpoint is damaged.
    """
    _check_tests(recipe, tests or {})
    torch.manual_seed(recipe.seed)
    if objective is None:
        with device:
            objective = objectives.build(_on_device(recipe, device))
    source = _damaged_source(source, recipe)
    if recipe.small.on:
        holdout = ()  # its pictures have any size, these networks accept one
    clean = {**({"validation": holdout} if holdout else {}), **(tests or {})}
    sets = corruption.versions_of(clean, recipe.corrupt)
    step = 0
    if start_from is not None and not (out / LAST).exists():
        networks.warm_start(objective.network, checkpoint.load_weights(start_from)[0])
    ema = copy.deepcopy(objective.network).eval()
    if (out / LAST).exists():
        step = _resume(out / LAST, recipe, objective, ema, source)
        log.info("continuing at step %d", step)
    if distributed.is_first():
        _rewind(out / JOURNAL, step)
    began, first_step = time.perf_counter(), step

    while step < recipe.steps:
        batch = _to_device(source.draw(), device)
        losses = distributed.mean(objective.step(batch, step), device)
        optimizers.average(ema, objective.network, recipe.optimizer.ema, step)
        step += 1
        early_checks.check_finite(losses, step)
        if step == recipe.check_step:
            early_checks.check_against_bicubic(objective.network, holdout, recipe.scale, step)
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


def _on_device(recipe: Recipe, device: torch.device) -> Recipe:
    """Return the recipe as the device computes it; checkpoints keep the recipe as it was read."""
    if not recipe.bf16 or bf16_is_fast(device):
        return recipe
    log.info("bf16 = true: this processor would compute bfloat16 slowly; float32 is used")
    return replace(recipe, bf16=False)


def _damaged_source(source: Source | Sequence[Pair], recipe: Recipe) -> Source:
    shard = distributed.shard()
    if isinstance(source, Sequence):
        data = recipe.data
        source = Patches(list(source), data.patch_px, data.batch, recipe.seed, shard)
    return corruption.wrap(source, recipe, shard)


def _check_tests(recipe: Recipe, tests: Mapping[str, Sequence[Pair]]) -> None:
    """Reject test sets that the textbook models for small pictures cannot be scored on."""
    if not recipe.small.on:
        return
    if tests and recipe.family == "gan":
        raise TrainingError("generated pictures have no ground truth to score: leave --test out")
    size = (recipe.data.patch_px, recipe.data.patch_px)
    for name, pairs in tests.items():
        for pair in pairs:
            if pair.hr.shape[:2] != size:
                raise TrainingError(
                    f"test folder {name}: {pair.name} is {pair.hr.shape[:2]}, expected {size}"
                )


def _to_device(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    tensors = {name: value for name, value in vars(batch).items() if value is not None}
    moved = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
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
    checkpoint.make_folder(out)
    with (out / JOURNAL).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())  # before the checkpoint, which says that these steps are done
    shown = [f"{name} {value:.5f}" for name, value in losses.items()]
    shown += [f"{name} {value}" for name, value in scores.items()]
    log.info("step %d  %s", step, "  ".join(shown))


def _rewind(journal: Path, step: int) -> None:
    """Drop lines after `step`, which will be written again, and what a power cut damaged."""
    if not journal.exists():
        return
    before = journal.read_bytes()
    kept = b"".join(line for line in before.splitlines(keepends=True) if _is_until(line, step))
    if kept == before:
        return
    log.info("%s: dropping what was logged after step %d", journal, step)
    temporary = journal.with_name(f".{journal.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(kept)
        checkpoint.publish(temporary, journal)
    finally:
        temporary.unlink(missing_ok=True)


def _is_until(line: bytes, step: int) -> bool:
    """Return whether a line of the journal is complete and not after `step`."""
    try:
        return line.endswith(b"\n") and int(json.loads(line)["step"]) <= step
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


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
    # parsed as a recipe: keys that are newer than the checkpoint get their defaults
    if recipe_from_dict(facts["recipe"], source=str(path)) != recipe:
        raise TrainingError(f"{path} belongs to another recipe; choose another --out or delete it")
    with checkpoint.reading(path, "damaged; delete it to start again"):
        objective.restore(checkpoint.without_prefix("objective", tensors))
        ema.load_state_dict(checkpoint.without_prefix("ema", tensors))
        torch.set_rng_state(tensors["random.torch"])
        if torch.cuda.is_available() and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"])
        source.restore(facts["patches"])
    return int(facts["step"])
