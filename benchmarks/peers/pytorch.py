"""The same weights in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.peers.adapters import Job, Picture, Upscale
from training import networks
from training.checkpoint import load_weights
from training.recipe.schema import recipe_from_dict

Net = Callable[[Tensor], Tensor]


def eager(job: Job) -> Upscale:
    """Run the network eagerly."""
    torch.set_num_threads(job.threads)
    return upscaler(network(job.weights))


def compiled(job: Job) -> Upscale:
    """Run the network through `torch.compile` for one size; the first call compiles."""
    torch.set_num_threads(job.threads)
    return upscaler(torch.compile(network(job.weights), dynamic=False))


def network(weights: str) -> nn.Module:
    """Load the float network of an srsdk checkpoint."""
    tensors, facts = load_weights(Path(weights))
    net = networks.for_recipe(recipe_from_dict(facts["recipe"], source=weights))
    networks.warm_start(net, tensors)
    return networks.deployed(net).eval()


def upscaler(net: Net) -> Upscale:
    """Wrap a float NCHW network for uint8 pictures."""

    def upscale(lr: Picture) -> Picture:
        with torch.inference_mode():
            y = net(to_tensor(lr))
            return to_picture(y)

    return upscale


def to_tensor(lr: Picture) -> Tensor:
    """Return (1, 3, H, W) float32, 0..1."""
    return torch.from_numpy(lr).permute(2, 0, 1)[None].float().div_(255)


def to_picture(y: Tensor) -> Picture:
    """Return (H, W, 3) uint8."""
    levels = y[0].mul(255).round_().clamp_(0, 255).byte()
    result: Picture = levels.permute(1, 2, 0).contiguous().numpy()
    return result
