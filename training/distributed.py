"""Train one network with several processes, started by `torchrun`.

Gradients are averaged explicitly between `backward` and the optimizer's step, not by
`DistributedDataParallel`: objectives with two networks and alternating steps need no wrapping, and
networks of this size take one all-reduce.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn

from training.data.pictures import Shard


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Join the process group that `torchrun` set up; do nothing without `torchrun`."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        # the first rank writes the weights: the others wait for it
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
def first_process_first() -> Iterator[None]:
    """Run the block in the first process, then in the others, which find for example its cache."""
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
