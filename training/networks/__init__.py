"""The networks, as `torch.nn.Module`s on floating point pictures (0..1, NCHW).

`build` is the only place that knows which recipe means which class.
"""

from __future__ import annotations

from torch import Tensor, nn

from training.networks import layers, plain, small, vae
from training.networks.autoencoder import Autoencoder
from training.networks.interpolation import interpolate
from training.networks.plain import PlainNet
from training.networks.vae import ConditionalVae
from training.recipe import NetworkRecipe, Recipe

__all__ = [
    "Autoencoder",
    "ConditionalVae",
    "PlainNet",
    "build",
    "deployed",
    "for_recipe",
    "interpolate",
    "warm_start",
]


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


def for_recipe(recipe: Recipe) -> nn.Module:
    """Build the network that a recipe of any family ships, freshly initialised."""
    if recipe.small.on:
        return small.build(recipe.family, recipe.small, recipe.data.patch_px)
    if recipe.family == "ae":
        return Autoencoder(recipe.ae, recipe.scale)
    if recipe.family == "vae":
        return ConditionalVae(recipe.network, recipe.vae, recipe.scale)
    return build(recipe.network, recipe.scale)


def warm_start(net: nn.Module, state: dict[str, Tensor]) -> None:
    """Take over trained weights.

    A plain net also takes those of a smaller scale, a narrower or a shallower one, and a `vae`
    those of a plain net.

    Raises:
        ValueError: the weights belong to another architecture.
    """
    if isinstance(net, ConditionalVae):
        vae.warm_start(net, state)
    elif isinstance(net, PlainNet):
        plain.warm_start(net, state)
    else:
        layers.load_exactly(net, state)
