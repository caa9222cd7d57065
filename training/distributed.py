"""Several processes that train one network, started by `torchrun`.

Gradients are averaged by hand between `backward` and the optimiser's step rather than by
`DistributedDataParallel`: objectives with two networks and alternating steps need no wrapping, and
networks of this size are one all-reduce.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn

from training.data import Shard


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Join the group that `torchrun` announces in the environment; nothing without one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        # the first rank writes the weights: nobody leaves before they are there
        dist.barrier()
    finally:
        dist.destroy_process_group()


def shard() -> Shard:
    """Return this process's share of the work."""
    return Shard(dist.get_rank(), dist.get_world_size()) if _active() else Shard()


def is_first() -> bool:
    """Whether this is the process that writes files."""
    return shard().rank == 0


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """Let the first process do something, decode pictures for example, that the rest then finds."""
    if _active() and not is_first():
        dist.barrier()
    yield
    if _active() and is_first():
        dist.barrier()


def average_gradients(net: nn.Module) -> None:
    """Replace each gradient by its mean over the processes."""
    if not _active():
        return
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, mean in zip(gradients, torch.split(flat, sizes), strict=True):
        gradient.copy_(mean.view_as(gradient))


def mean(losses: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Return the mean of every loss over the processes."""
    if not _active():
        return dict(losses)
    values = torch.tensor(list(losses.values()), dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return dict(zip(losses, (values / dist.get_world_size()).tolist(), strict=True))


def _active() -> bool:
    return dist.is_available() and dist.is_initialized()
