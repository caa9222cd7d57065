"""Write networks of realistic size with random weights: `python -m tests.export.nets KIND OUT`.

KIND `rrdb` has the size of Real-ESRGAN x4plus (23 blocks, 64 channels, 351 convolutions, 16.7
million weights), `plain` is one of ours with 64 channels and 16 convolutions. The weights are
random except for a path that passes the picture on, as in a trained network, so the result is the
enlarged input with a little texture. Fully random weights would not give a picture, and the gates'
limits in levels of color would have no meaning.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from training import checkpoint, networks
from training.recipe.schema import recipe_from_dict

DENSE = 0.1
"""Share of He's initialization, as in ESRGAN (Wang et al. 2018, arXiv:1809.00219)."""
TEXTURE = 0.1
GROWTH = 1.2
"""Growth per block: each adds to its input a fifth of three others that are close to the input."""


def rrdb_state(*, blocks: int = 23, width: int = 64, growth: int = 32) -> dict[str, Tensor]:
    """Return the weights of RRDBNet x4 under its parameter names, (out, in, 3, 3) and (out,)."""
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
    """Save a checkpoint of our plain x4 network."""
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
