"""Networks for luma: training, scoring, export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from export.options import Options
from export.pipeline import export
from srsdk.manifest import read_manifest
from tests.conftest import make_picture
from tests.training import runs
from training import networks
from training.checkpoint import load_weights
from training.data.color import in_channels, luma, with_luma
from training.evaluation import evaluate, subject
from training.loop import train
from training.recipe.schema import RecipeError, recipe_from_dict

NETWORK = {"width": 8, "depth": 2, "colors": 1}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a network for luma for a second."""
    recipe = runs.tiny("gan", 2, network=NETWORK)
    return train(recipe, runs.pairs(2), tmp_path_factory.mktemp("run"), holdout=runs.pairs(2, 1))


def test_a_run_learns_luma(weights: Path) -> None:
    """The trained network maps one channel to one channel."""
    state, facts = load_weights(weights)
    net = networks.for_recipe(recipe_from_dict(facts["recipe"], source="test"))
    networks.warm_start(net, state)
    assert net(torch.zeros(1, 1, 8, 10)).shape == (1, 1, 16, 20)


def test_luma_is_that_of_jpeg() -> None:
    """The weights are Pillow's: equal within its rounding."""
    picture = make_picture(24, 32)
    tensor = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
    ours = (luma(tensor)[0, 0] * 255).round().numpy()
    assert np.abs(ours - in_channels(picture, 1)[:, :, 0]).max() <= 1
    assert in_channels(picture, 3) is picture


def test_color_is_bicubic() -> None:
    """Where the network enlarges luma as Pillow would, so is the whole picture."""
    picture = make_picture(24, 32)

    def bicubic(plane: np.ndarray) -> np.ndarray:
        large = Image.fromarray(plane[:, :, 0]).resize((64, 48), Image.Resampling.BICUBIC)
        return np.asarray(large)[:, :, None]

    ycc = Image.fromarray(picture).convert("YCbCr").resize((64, 48), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(with_luma(bicubic, picture), np.asarray(ycc.convert("RGB")))


@pytest.mark.parametrize(
    "tables",
    [
        {"network": {"colors": 2}},
        {"network": {"colors": 1}, "loss": {"luma": 1.0}},
        {"network": {"colors": 1}, "family": "vae"},
    ],
)
def test_what_luma_excludes(tables: dict[str, object]) -> None:
    """Terms and objectives that need RGB are refused with the recipe."""
    with pytest.raises(RecipeError, match=r"network\.colors = [12], allowed: 3, or 1"):
        recipe_from_dict({"name": "a", "scale": 2, **tables}, source="test")


def test_the_exported_file_is_scored_as_the_checkpoint(weights: Path, tmp_path: Path) -> None:
    """Export fills the manifest and scores luma networks; `evaluate` reads the file."""
    folder = tmp_path / "set"
    folder.mkdir()
    for seed in range(2):
        Image.fromarray(make_picture(96, 112, seed)).save(folder / f"{seed}.png")
    options = Options(precisions=("fp32",), tests=(folder,))
    (tmp_path / "out").mkdir()
    export(weights, tmp_path / "out", options)
    [file] = (tmp_path / "out").glob("*.onnx")
    manifest = read_manifest(file)
    assert manifest is not None
    assert (manifest.channels, manifest.radius_px) == (1, 4)
    models = [subject.load_model(path, torch.device("cpu")) for path in (weights, file)]
    pairs = subject.load_set(folder, models[0])
    scores = [evaluate.score(model.upscale, pairs, 2).psnr_y_db for model in models]
    assert scores[0] == pytest.approx(scores[1], abs=0.01)
    assert manifest.scores["set"]["psnr_y_db"] == pytest.approx(scores[0], abs=0.01)
