"""Stop failing runs early: losses that are not finite, dead channels, worse than bicubic."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from training.data.pictures import Pair
from training.data.resize import Picture
from training.evaluation.evaluate import bicubic, network, score

log = logging.getLogger(__name__)

TOLERANCE_DB = 0.5
"""Allowed gap below bicubic; a net that learns closes it within a few hundred steps."""
DEAD_LIMIT = 0.5
"""Share of dead channels above which the run stops."""
LOOKED_AT = 4
"""Number of pictures that the early check scores."""


class TrainingError(RuntimeError):
    """A run that cannot continue; the message gives the step and the reason."""


def check_finite(losses: Mapping[str, float], step: int) -> None:
    """Stop at the first loss that is not finite.

    Raises:
        TrainingError: a loss is NaN or infinite.
    """
    for name, value in losses.items():
        if not math.isfinite(value):
            raise TrainingError(f"step {step}: {name} is {value}; lower the learning rate")


def check_against_bicubic(net: nn.Module, pairs: Sequence[Pair], scale: int, step: int) -> None:
    """Stop a run early if its network does not learn.

    Without held-out pictures, and at scale 1, the check always passes.

    Raises:
        TrainingError: more than 0.5 dB below bicubic, or more than half of the channels dead.
    """
    if not pairs or scale == 1:
        return
    was_training = net.training
    net.eval()
    some = pairs[:LOOKED_AT]
    ours, theirs = score(network(net), some, scale), score(bicubic(scale), some, scale)
    dead = dead_share(net, [pair.lr for pair in some])
    net.train(was_training)
    facts = (
        f"{ours.psnr_y_db:.2f} dB against bicubic's {theirs.psnr_y_db:.2f} on held-out pictures, "
        f"{dead:.0%} of the channels are dead"
    )
    log.info("step %d  early check: %s", step, facts)
    if ours.psnr_y_db < theirs.psnr_y_db - TOLERANCE_DB or dead > DEAD_LIMIT:
        raise TrainingError(
            f"step {step}: the net does not learn: {facts}; lower the learning rate, "
            "or set check_step = 0 to disable this check"
        )


@torch.no_grad()
def dead_share(net: nn.Module, pictures: Sequence[Picture]) -> float:
    """Return the share of channels before a ReLU that are never positive on the pictures.

    Checks all convolutions in `net.convs` but the last, which is where the plain net has its
    ReLUs; 0 for networks without that list.
    """
    convs = getattr(net, "convs", None)
    if not isinstance(convs, nn.ModuleList):
        return 0.0
    alive: dict[nn.Module, Tensor] = {}

    def record(conv: nn.Module, _: object, output: Tensor) -> None:
        positive = output.amax(dim=(0, 2, 3)) > 0
        alive[conv] = alive.get(conv, torch.zeros_like(positive)) | positive

    hooks = [conv.register_forward_hook(record) for conv in convs[:-1]]
    try:
        upscale = network(net)
        for picture in pictures:
            upscale(picture)
    finally:
        for hook in hooks:
            hook.remove()
    return 1.0 - float(torch.cat(list(alive.values())).float().mean()) if alive else 0.0
