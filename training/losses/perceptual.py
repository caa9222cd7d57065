"""Feature networks for perceptual losses: random, a trained encoder, or VGG19.

A feature network is any `nn.Module` that maps (N, 3, H, W), 0..1, to a list of feature maps.
"""

from __future__ import annotations

import itertools
import math
import pickle
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import networks
from training.recipe.losses import LossRecipe
from training.recipe.schema import recipe_from_dict

RANDOM_SEED = 20260101
VGG19_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Width and number of convolutions of each stage; max pooling in between."""
VGG19_TAPS = (2, 7, 16, 25, 34)
"""conv1_2, 2_2, 3_4, 4_4, 5_4 before their ReLU, as in ESRGAN."""


def build(recipe: LossRecipe) -> nn.Module:
    """Build the frozen feature network that a recipe names.

    Raises:
        ValueError: the file is missing or holds something else.
    """
    path = Path(recipe.perceptual_file)
    if recipe.perceptual_net == "vgg":
        net: nn.Module = Vgg19(path)
    elif recipe.perceptual_net == "ae":
        net = encoder_of(path)
    else:
        net = RandomFeatures()
    return net.eval().requires_grad_(False)


class RandomFeatures(nn.Module):
    """A fixed random VGG-like network: 4 scales, 2 convolutions each, orthogonal weights.

    Untrained deep features still compare structure rather than pixels; in super-resolution they
    came close to trained ones in a pilot study (arXiv:2103.10571). The weights depend on the seed
    alone, not on the run.
    """

    def __init__(self, width: int = 16, *, seed: int = RANDOM_SEED) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 4 * width]
        random = torch.Generator().manual_seed(seed)
        self.stages = nn.ModuleList(
            nn.ModuleList([_conv(before, after), _conv(after, after)])
            for before, after in itertools.pairwise(widths)
        )
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                # sqrt(2) compensates for the ReLU, so that all scales weigh alike
                nn.init.orthogonal_(conv.weight, math.sqrt(2), generator=random)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Return 4 maps of 1, 1/2, 1/4, 1/8 of the size, before the last ReLU of their scale."""
        x, maps = picture - 0.5, []
        for index, stage in enumerate(self.stages):
            assert isinstance(stage, nn.ModuleList)
            x = F.avg_pool2d(F.relu(x), 2) if index else x
            x = stage[1](F.relu(stage[0](x)))
            maps.append(x)
        return maps


class Vgg19(nn.Module):
    """torchvision's VGG19 from a state-dict file that the user supplies (never downloaded).

    Simonyan and Zisserman 2015 (arXiv:1409.1556), tapped before activation at five scales as in
    Wang et al. 2018 (ESRGAN, arXiv:1809.00219), each map times 0.1, 0.1, 1, 1, 1 (Real-ESRGAN).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.features = nn.Sequential(*_vgg19_layers())
        state = _vgg_state(path)
        try:
            self.load_state_dict({name: state[name] for name in self.state_dict()})
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"{path}: not a state dict of torchvision's vgg19: {error}") from error
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Return 5 weighted feature maps."""
        x = (picture - self.mean) / self.deviation
        maps: list[Tensor] = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in VGG19_TAPS:
                maps.append(x * (0.1 if len(maps) < 2 else 1.0))
        return maps


class EncoderFeatures(nn.Module):
    """Feature maps of any network with `features(picture) -> list[Tensor]`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Return the feature maps."""
        maps: list[Tensor] = self.net.features(picture)  # type: ignore[operator]
        return maps


def encoder_of(path: Path) -> nn.Module:
    """Load a trained autoencoder and return its encoder as a feature network.

    Raises:
        ValueError: the network of the checkpoint has no `features`.
    """
    from training.checkpoint import (
        load_weights,  # the loop imports the objectives, they import this
    )

    tensors, facts = load_weights(path)
    recipe = recipe_from_dict(facts["recipe"], source=str(path))
    net: nn.Module = networks.build(recipe.network, recipe.scale)
    if not hasattr(net, "features"):
        raise ValueError(f"{path}: {recipe.name} is not an autoencoder: it has no features")
    net.load_state_dict(tensors)
    return EncoderFeatures(net)


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)


def _vgg19_layers() -> list[nn.Module]:
    layers: list[nn.Module] = []
    before = 3
    for width, count in VGG19_STAGES:
        for _ in range(count):
            layers += [_conv(before, width), nn.ReLU()]
            before = width
        layers.append(nn.MaxPool2d(2))
    return layers[:-2]  # nothing is read after the last convolution


def _vgg_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; loss.perceptual_file must name VGG19 weights")
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path}: not a file of torch weights: {error}") from error
    return state
