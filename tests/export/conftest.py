"""Fixtures of the export tests: a small checkpoint and folders of synthetic pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import make_picture
from training.recipe.schema import recipe_from_dict

RECIPE = recipe_from_dict(
    {"name": "toy_x2", "scale": 2, "network": {"width": 8, "depth": 3}}, source="test"
)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small random net: 8 channels, 3 convolutions between head and tail."""
    import torch

    from training import checkpoint, networks

    torch.manual_seed(1)
    net = networks.build(RECIPE.network, 2)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.02)
        # a trained net adds little to its anchor, so scale the random tail down
        for parameter in net.convs[-1].parameters():
            parameter.mul_(0.3)
    path = tmp_path_factory.mktemp("run") / "weights.safetensors"
    checkpoint.save(path, net.state_dict(), {"recipe": RECIPE.to_dict(), "step": 0})
    return path


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten synthetic pictures for calibration."""
    folder = tmp_path_factory.mktemp("drawn")
    for seed in range(10):
        Image.fromarray(make_picture(80 + seed, 96, seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two other synthetic pictures as ground truth."""
    folder = tmp_path_factory.mktemp("truth")
    for seed in (50, 51):
        Image.fromarray(make_picture(60, 72, seed)).save(folder / f"{seed}.png")
    return folder
