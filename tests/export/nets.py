"""`python -m tests.export.nets rrdb|plain OUT`: networks whose size is what matters, not their art.

`rrdb` has the size of Real-ESRGAN x4plus (23 blocks, 64 channels, 351 convolutions, 16.7 million
weights), `plain` is one of ours with 64 channels and 16 convolutions. The weights are random but
for a path that carries the picture, as in a trained network: what comes out is the input, enlarged,
with a little texture. Wholly random weights would make no picture, and no gate could say what half
a level of colour means.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from training import checkpoint, networks
from training.recipe import recipe_from_dict

DENSE = 0.1
"""Of He's initialisation: what ESRGAN starts from (Wang et al. 2018, arXiv:1809.00219)."""
TEXTURE = 0.1
GROWTH = 1.2
"""Each block adds a fifth of three others, which are close to its input, to its input."""


def rrdb_state(*, blocks: int = 23, width: int = 64, growth: int = 32) -> dict[str, Tensor]:
    """Return the weights of RRDBNet x4 under their own names, (out, in, 3, 3) and (out,)."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}

    def convolution(name: str, into: int, out: int, share: float) -> Tensor:
        weight: Tensor = torch.randn(out, into, 3, 3) * (2 / (9 * into)) ** 0.5 * share
        state[f"{name}.weight"], state[f"{name}.bias"] = weight, torch.zeros(out)
        return weight

    def carrying(name: str, into: int, out: int) -> None:
        weight = convolution(name, into, out, TEXTURE)
        for channel in range(3):
            weight[channel] = 0
            weight[channel, channel, 1, 1] = 1

    carrying("conv_first", 3, width)
    for block in range(blocks):
        for dense in (1, 2, 3):
            for index in range(5):
                out = growth if index < 4 else width
                name = f"body.{block}.rdb{dense}.conv{index + 1}"
                convolution(name, width + index * growth, out, DENSE)
    convolution("conv_body", width, width, TEXTURE / GROWTH**blocks)
    for name in ("conv_up1", "conv_up2", "conv_hr"):
        carrying(name, width, width)
    carrying("conv_last", width, 3)
    state["conv_last.weight"][:, 3:] = torch.randn(3, width - 3, 3, 3) * 0.002
    return state


def save_plain(path: Path, *, width: int = 64, convolutions: int = 16) -> None:
    """Write a checkpoint of our plain network x4."""
    sizes = {"width": width, "depth": convolutions - 2}
    recipe = recipe_from_dict({"name": "plain_x4", "scale": 4, "network": sizes}, source="nets")
    torch.manual_seed(0)
    net = networks.build(recipe.network, recipe.scale)
    with torch.no_grad():
        for parameter in net.convs[-1].parameters():
            parameter.mul_(TEXTURE)  # a trained net adds little to its anchor
    checkpoint.save(path, net.state_dict(), {"recipe": recipe.to_dict(), "step": 0})


if __name__ == "__main__":
    kind, out = sys.argv[1], Path(sys.argv[2])
    if kind == "rrdb":
        torch.save({"params_ema": rrdb_state()}, out)
    else:
        save_plain(out)
