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
import torch.nn.functional as F
from torch import Tensor, nn

from training import checkpoint, networks
from training.data import Pair, Patches
from training.evaluate import Score, network, score
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

    The loss is L1 between the network's output and the high-resolution patch. A run continues from
    `out/last.safetensors` where there is one, bit for bit as if it had never stopped.

    Args:
        recipe: what to do.
        pairs: training pictures with their low-resolution twins, made for `recipe.scale`.
        out: folder of the run; made if missing.
        tests: folders by name, scored every `recipe.evaluate_every` steps and at the end.
        start_from: weights of a trained net to begin with (same scale, or a divisor of it).
        on_step: called after every step.

    Raises:
        TrainingError: the loss is not finite, or `out` holds a run of another recipe.
        checkpoint.CheckpointError: a damaged checkpoint.
    """
    torch.manual_seed(recipe.seed)
    net = networks.build(recipe.network, recipe.scale).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.bf16 = recipe.bf16
    optimiser = torch.optim.AdamW(
        net.parameters(),
        lr=recipe.optimiser.learning_rate,
        betas=(recipe.optimiser.beta1, recipe.optimiser.beta2),
        weight_decay=0.0,
    )
    patches = Patches(list(pairs), recipe.data.patch_px, recipe.data.batch, recipe.seed)
    step = 0
    if (out / LAST).exists():
        ema = copy.deepcopy(net)
        step = _resume(out / LAST, recipe, net, ema, optimiser, patches)
        log.info("continuing at step %d", step)
    else:
        if start_from is not None:
            networks.warm_start(net, load_weights(start_from)[0])
        ema = copy.deepcopy(net)
    ema.bf16 = False
    began, first_step = time.perf_counter(), step

    while step < recipe.steps:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step)
        lr, hr = patches.draw()  # (N, 3, P, P), (N, 3, P*s, P*s)
        loss = F.l1_loss(net(lr), hr)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), recipe.optimiser.clip_norm)
        optimiser.step()
        _average(ema, net, recipe.optimiser.ema, step)
        step += 1

        loss_value = loss.item()
        if not math.isfinite(loss_value):
            raise TrainingError(f"step {step}: the loss is {loss_value}; lower the learning rate")
        if on_step is not None:
            seconds = (time.perf_counter() - began) / (step - first_step)
            on_step(Progress(step, recipe.steps, loss_value, seconds))
        if step % recipe.evaluate_every == 0 or step == recipe.steps:
            _journal(out, step, loss_value, _scores(ema, tests or {}, recipe.scale))
        if step % recipe.save_every == 0 or step == recipe.steps:
            _save(out / LAST, recipe, step, net, ema, optimiser, patches)

    facts = {"recipe": recipe.to_dict(), "step": step}
    checkpoint.save(out / WEIGHTS, ema.state_dict(), facts)
    return out / WEIGHTS


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine."""
    peak, low = recipe.optimiser.learning_rate, recipe.optimiser.final_fraction
    warm = min(1.0, (step + 1) / max(1, recipe.optimiser.warm_up))
    cosine = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    return peak * warm * (low + (1 - low) * cosine)


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the averaged weights in a run's `weights` or `last` file, and its facts."""
    tensors, facts = checkpoint.load(path)
    return checkpoint.without_prefix("ema", tensors) or tensors, facts


@torch.no_grad()
def _average(ema: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    # the first steps count fully: an average that remembers the initialisation scores badly early
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(ema.parameters(), net.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)


def _scores(ema: nn.Module, tests: Mapping[str, Sequence[Pair]], scale: int) -> dict[str, Score]:
    return {name: score(network(ema), pairs, scale) for name, pairs in tests.items()}


def _journal(out: Path, step: int, loss: float, scores: Mapping[str, Score]) -> None:
    line = {"step": step, "loss": loss, **{name: asdict(s) for name, s in scores.items()}}
    out.mkdir(parents=True, exist_ok=True)
    with (out / JOURNAL).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    shown = "  ".join(f"{name} {value}" for name, value in scores.items())
    log.info("step %d  loss %.5f  %s", step, loss, shown)


def _save(
    path: Path,
    recipe: Recipe,
    step: int,
    net: nn.Module,
    ema: nn.Module,
    optimiser: torch.optim.Optimizer,
    patches: Patches,
) -> None:
    tensors = {
        **checkpoint.prefixed("net", net.state_dict()),
        **checkpoint.prefixed("ema", ema.state_dict()),
        **checkpoint.prefixed("optimiser", checkpoint.optimiser_tensors(optimiser)),
        "random.torch": torch.get_rng_state(),
    }
    facts = {"recipe": recipe.to_dict(), "step": step, "patches": patches.state()}
    checkpoint.save(path, tensors, facts)


def _resume(
    path: Path,
    recipe: Recipe,
    net: nn.Module,
    ema: nn.Module,
    optimiser: torch.optim.Optimizer,
    patches: Patches,
) -> int:
    tensors, facts = checkpoint.load(path)
    if facts["recipe"] != recipe.to_dict():
        raise TrainingError(f"{path} belongs to another recipe; choose another --out or delete it")
    net.load_state_dict(checkpoint.without_prefix("net", tensors))
    ema.load_state_dict(checkpoint.without_prefix("ema", tensors))
    checkpoint.restore_optimiser(optimiser, checkpoint.without_prefix("optimiser", tensors))
    torch.set_rng_state(tensors["random.torch"])
    patches.restore(facts["patches"])
    return int(facts["step"])
