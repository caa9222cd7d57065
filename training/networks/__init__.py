"""The networks, as `torch.nn.Module`s on floating point pictures (0..1, NCHW).

`build` is the only place that knows which recipe means which class.
"""

from __future__ import annotations

from torch import Tensor, nn

from training.networks import plain
from training.networks.interpolation import interpolate
from training.networks.plain import PlainNet
from training.recipe import NetworkRecipe

__all__ = ["PlainNet", "build", "deployed", "interpolate", "warm_start"]


def build(network: NetworkRecipe, scale: int) -> PlainNet:
    """Build the network that a recipe describes, freshly initialised."""
    return PlainNet(
        scale,
        network.width,
        network.depth,
        attention=network.attention,
        reparam=network.reparam,
    )


def deployed(net: nn.Module) -> nn.Module:
    """Return what is exported: training-only parts merged; any other net as it is."""
    return net.deployed() if isinstance(net, PlainNet) else net


def warm_start(net: nn.Module, state: dict[str, Tensor]) -> None:
    """Take over trained weights; a plain net also takes those of a smaller scale.

    Raises:
        ValueError: the weights belong to another architecture.
    """
    assert isinstance(net, PlainNet)
    plain.warm_start(net, state)
