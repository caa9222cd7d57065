"""The network architectures: `torch.nn.Module`s on floating-point pictures (0..1, NCHW).

Only `build` and `for_recipe` map recipes to classes.

Uses: recipe.
"""

from __future__ import annotations

from torch import Tensor, nn

from training.networks import layers, plain, small, vae
from training.networks.autoencoder import Autoencoder
from training.networks.interpolation import interpolate
from training.networks.plain import PlainNet
from training.networks.vae import ConditionalVae
from training.recipe.schema import NetworkRecipe, Recipe

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
    """Build the network that a recipe describes, freshly initialized."""
    return PlainNet(
        scale,
        network.width,
        network.depth,
        colors=network.colors,
        attention=network.attention,
        reparam=network.reparam,
    )


def deployed(net: nn.Module) -> nn.Module:
    """Return the network to export: training-only parts merged, any other net unchanged."""
    return net.deployed() if isinstance(net, PlainNet) else net


def for_recipe(recipe: Recipe) -> nn.Module:
    """Build the network that a recipe of any family ships, freshly initialized."""
    if recipe.small.on:
        return small.build(recipe.family, recipe.small, recipe.data.patch_px)
    if recipe.family == "ae":
        return Autoencoder(recipe.ae, recipe.scale)
    if recipe.family == "vae":
        return ConditionalVae(recipe.network, recipe.vae, recipe.scale)
    return build(recipe.network, recipe.scale)


def warm_start(net: nn.Module, state: dict[str, Tensor]) -> None:
    """Load trained weights into a network.

    A plain net also accepts those of a smaller scale, a narrower or a shallower net; a `vae` also
    accepts those of a plain net.

    Raises:
        ValueError: the weights belong to another architecture.
    """
    try:
        if isinstance(net, ConditionalVae):
            vae.warm_start(net, state)
        elif isinstance(net, PlainNet):
            plain.warm_start(net, state)
        else:
            layers.load_exactly(net, state)
    except (ArithmeticError, LookupError, RuntimeError, TypeError) as error:
        # names and shapes of a damaged file
        reason = " ".join(str(error).split())
        raise ValueError(f"weights of another architecture: {reason}") from error
