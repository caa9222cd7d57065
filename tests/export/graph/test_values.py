"""Numbers beside the picture: a constant while a file is made, an input of the finished file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import srsdk
from export.cli import main
from srsdk.engines.protocol import VALUES
from tests.conftest import make_picture
from tests.training.runs import tiny
from training import checkpoint, networks
from training.evaluation.evaluate import network
from training.networks import Autoencoder

FORMS = {"": 1, ".fp16": 1, ".int8": 4}
"""Files, and levels by which each may differ from the network."""

TOLD: tuple[dict[str, float], ...] = (
    {},
    {"noise": 25.0},
    {"jpeg": 10.0},
    {"noise": 50.0, "jpeg": 40.0},
)


@pytest.fixture(scope="module")
def restorer() -> Autoencoder:
    """Return a small restorer that takes levels, with noise on its weights."""
    torch.manual_seed(3)
    net = networks.for_recipe(tiny("ae", 1, ae={"width": 8, "levels": True}))
    assert isinstance(net, Autoencoder)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return net.eval()


@pytest.fixture(scope="module")
def exported(restorer: Autoencoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with its files."""
    folder = tmp_path_factory.mktemp("levels")
    damage = {"noise_max": 50.0, "jpeg_max": 95}
    recipe = tiny("ae", 1, ae={"width": 8, "levels": True}, corrupt=damage)
    facts = {"recipe": recipe.to_dict(), "step": 0}
    checkpoint.save(folder / "tiny.safetensors", restorer.state_dict(), facts)
    for seed in range(8):
        (folder / "pictures").mkdir(exist_ok=True)
        Image.fromarray(make_picture(160, 200, seed)).save(folder / "pictures" / f"{seed}.png")
    arguments = [f"{folder}/tiny.safetensors", "-o", f"{folder}", "--data", f"{folder}/pictures"]
    assert main([*arguments, "--precision", "fp32,fp16,int8", "--no-comparison"]) == 0
    return folder


def test_a_server_that_batches_is_refused(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its inputs have one entry for each picture of a batch, these numbers have one for all."""
    arguments = [f"{exported}/tiny.safetensors", "-o", f"{exported}/served"]
    data = ["--data", f"{exported}/pictures", "--triton", f"{exported}/served"]
    assert main([*arguments, *data, "--no-comparison"]) == 1
    message = "tiny.onnx takes noise, jpeg beside the picture, which a server that batches cannot"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("form", FORMS)
def test_every_precision_takes_levels(restorer: Autoencoder, exported: Path, form: str) -> None:
    """The file follows the network for unknown and for known levels."""
    path, picture = exported / f"tiny{form}.onnx", make_picture(40, 56, 3)
    assert [port.name for port in onnx.load(path).graph.input][1:] == [VALUES]
    results = []
    with srsdk.Restorer(path) as up:
        assert dict(up.manifest.inputs) == {"noise": -1.0, "jpeg": -1.0}
        for told in TOLD:
            levels = told.get("noise", -1.0), told.get("jpeg", -1.0)
            expected = network(restorer, levels)(picture)
            results.append(up(picture, options=srsdk.PictureOptions(inputs=told)))
            assert np.abs(results[-1].astype(int) - expected).max() <= FORMS[form], told
    assert all(np.abs(results[0].astype(int) - other).max() > 3 for other in results[1:])


def test_levels_that_were_not_learned_are_refused(exported: Path) -> None:
    """Before any work, by keyword and in options, alone and in a chain; at the limit they work."""
    picture = make_picture(24, 24)
    with srsdk.Chain(srsdk.Restorer(exported / "tiny.onnx"), srsdk.Upscaler("gan_x2")) as chain:
        restorer = chain._models[0]
        ranges = restorer.manifest.input_ranges
        assert dict(ranges) == {"noise": (-1.0, 50.0), "jpeg": (-1.0, 95.0)}
        for models in (restorer, chain):
            told: Any
            for told in ({"noise": 50}, {"jpeg": 95}, {"noise": 0, "jpeg": -1}):
                options = srsdk.PictureOptions(inputs=told)
                np.testing.assert_array_equal(
                    models(picture, **told), models(picture, options=options)
                )
            message = r"input noise is 300, expected -1 to 50: tiny has learned no other"
            with pytest.raises(srsdk.UsageError, match=message):
                models(picture, noise=300)
            with pytest.raises(srsdk.UsageError, match=r"jpeg is 95.5, expected -1 to 95"):
                models(picture, options=srsdk.PictureOptions(inputs={"jpeg": 95.5}))
            with pytest.raises(srsdk.UsageError, match="has no input 'sigma'"):
                models(picture, sigma=3)
        assert np.any(chain(picture, noise=50) != chain(picture))
