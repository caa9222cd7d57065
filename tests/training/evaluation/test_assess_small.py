"""`training.assess_small`: the figures of the textbook models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import make_picture
from training import assess_small, checkpoint, networks
from training.networks.small import FlatAutoencoder, FlatVae
from training.recipe.schema import recipe_from_dict


def weights(folder: Path, family: str) -> Path:
    """Write an untrained textbook model of 16 px."""
    small = {"on": True, "latent": 6, "width": 8}
    table = {"name": f"small_{family}", "scale": 1, "family": family, "small": small}
    recipe = recipe_from_dict({**table, "bf16": False, "data": {"patch_px": 16}}, source="test")
    torch.manual_seed(0)
    path = folder / f"{family}.safetensors"
    facts = {"recipe": recipe.to_dict(), "step": 1}
    checkpoint.save(path, networks.for_recipe(recipe).state_dict(), facts)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two drawn pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(2):
        Image.fromarray(make_picture(50, 60, seed=index)).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize("family", ["ae", "vae", "gan"])
def test_each_form_is_measured_and_drawn(
    family: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures by family, and a sheet of four rows of twelve pictures."""
    sheet = tmp_path / "sheet.png"
    call = [str(weights(tmp_path, family)), "--data", str(photos), "--sheet", str(sheet)]
    assert assess_small.main([*call, "--fit", str(photos)]) == 0
    text = capsys.readouterr().out
    assert ("reconstruction: " in text) == (family != "gan")
    assert ("8 bits per number: 0.188 bits per pixel" in text) == (family == "ae")
    with Image.open(sheet) as drawn:
        assert drawn.size == (12 * 16 * 3, 4 * 16 * 3)


def test_the_figures_of_a_perfect_net(photos: Path) -> None:
    """A net that adds 0.01 to its input: a reconstruction of exactly 40 dB."""

    class Same(FlatVae):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def forward(self, picture: torch.Tensor, eps: torch.Tensor | None = None) -> torch.Tensor:
            return picture + 0.01

    pictures = assess_small.draw(photos, 20, 16)
    assert pictures.shape == (20, 3, 16, 16)
    assert torch.equal(pictures, assess_small.draw(photos, 20, 16))
    lines = assess_small.assess(Same(), pictures, None)
    assert lines[1] == "reconstruction: 40.00 dB"


def test_completion_counts_what_was_hidden_only(photos: Path) -> None:
    """If the net leaves the gray, both figures are equal."""

    class Same(FlatAutoencoder):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return picture

    line = assess_small.assess(Same(), assess_small.draw(photos, 50, 16), None)[2]
    inside, left = (float(word.strip("():")) for word in line.split() if word[-1:] in "0123456789)")
    assert inside == left
    assert np.isfinite(inside)


def test_another_network_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A one-line error."""
    recipe = recipe_from_dict({"name": "toy", "scale": 2}, source="test")
    path = tmp_path / "toy.safetensors"
    facts = {"recipe": recipe.to_dict(), "step": 1}
    checkpoint.save(path, networks.for_recipe(recipe).state_dict(), facts)
    assert assess_small.main([str(path), "--data", str(photos)]) == 1
    assert "toy is not a textbook model" in capsys.readouterr().err
