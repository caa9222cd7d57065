"""`evaluate`: the table is right, the sheet is complete, mistakes give one-line errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import srsdk
from tests import networks as onnx_networks
from tests.conftest import make_picture
from training import checkpoint, networks
from training.cli import main
from training.data.corruption import jpeg, versions_of
from training.data.pictures import load_pairs
from training.evaluation import niqe, report, subject
from training.evaluation.evaluate import bicubic, network, score
from training.recipe.data import DegradationRecipe
from training.recipe.schema import recipe_from_dict

RECIPE = recipe_from_dict(
    {"name": "tiny", "scale": 2, "network": {"width": 4, "depth": 1}}, source="test"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures."""
    (tmp_path / "set").mkdir()
    for seed in range(2):
        Image.fromarray(make_picture(110, 130, seed)).save(tmp_path / "set" / f"{seed}.png")
    return tmp_path / "set"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of a new net."""
    net = networks.build(RECIPE.network, 2)
    path = tmp_path / "weights.safetensors"
    checkpoint.save(path, net.state_dict(), {"recipe": RECIPE.to_dict(), "step": 0})
    return path


def test_the_command_writes_table_and_sheet(folder: Path, weights: Path, tmp_path: Path) -> None:
    """Three rows; PSNR as everywhere else; infinities are null in JSON; four crops per picture."""
    out = tmp_path / "out"
    call = ["evaluate", str(weights), "--data", str(folder), "--out", str(out), "--crop", "64"]
    assert main(call) == 0
    facts = json.loads((out / "report.json").read_text())
    assert facts["model"] == "tiny"
    rows = {row["method"]: row for row in facts["rows"]}
    assert list(rows) == ["bicubic", "tiny", "HR"]
    pairs = load_pairs(folder, 2)
    assert rows["bicubic"]["psnr_y_db"] == pytest.approx(score(bicubic(2), pairs, 2).psnr_y_db)
    assert rows["HR"]["psnr_y_db"] is None
    assert rows["HR"]["spectrum_db"] == 0
    table = (out / "report.md").read_text()
    assert f"| set | bicubic | {rows['bicubic']['psnr_y_db']:.2f} |" in table
    with Image.open(out / "set.png") as page:
        assert page.size == (4 + 4 * 68, 2 * (22 + 64 + 4))


def test_mistakes_are_one_sentence(
    folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file, not a checkpoint, a truncated model, no pictures."""
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(srsdk.models.find("gan_x2").read_bytes()[:1000])
    for model, data, message in (
        (tmp_path / "none", folder, "no such file"),
        (folder / "0.png", folder, "not a safetensors file"),
        (tmp_path / "none.onnx", folder, "no such file"),
        (cut, folder, "cut.onnx: ONNX Runtime cannot read it"),
        (weights, tmp_path / "none", "no such folder"),
    ):
        assert main(["evaluate", str(model), "--data", str(data), "--out", str(tmp_path)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_a_file_that_asks_for_multiples_gets_them(folder: Path, tmp_path: Path) -> None:
    """An .onnx file that fails on other sizes gets padded pictures; the padding is cut off."""
    nodes = [
        onnx.helper.make_node("Cast", ["image"], ["float"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("SpaceToDepth", ["nchw"], ["deep"], blocksize=8),
        onnx.helper.make_node("DepthToSpace", ["deep"], ["flat"], blocksize=8, mode="DCR"),
        onnx.helper.make_node("Transpose", ["flat"], ["nhwc"], perm=[0, 2, 3, 1]),
        onnx.helper.make_node("Cast", ["nhwc"], ["upscaled"], to=onnx.TensorProto.UINT8),
    ]
    path = onnx_networks.save(
        tmp_path / "eighths.onnx",
        nodes,
        dtype=onnx.TensorProto.UINT8,
        input_shape=["n", "h", "w", 3],
        output_shape=["n", "H", "W", 3],
        metadata={"srsdk.manifest": '{"multiple_px": 8}'},
    )
    model = subject.load_model(path, torch.device("cpu"))
    assert model.scale == 1
    picture = make_picture(110, 131)
    np.testing.assert_array_equal(model.upscale(picture), picture)


def test_the_shown_crop_is_where_bicubic_is_worst() -> None:
    """The window contains the error."""
    truth = np.zeros((60, 90, 3), np.uint8)
    wrong = truth.copy()
    wrong[42:48, 70:75] = 90
    rows, columns = report.worst_window(wrong, truth, 20)
    assert rows.start <= 42 < 48 <= rows.stop
    assert columns.start <= 70 < 75 <= columns.stop


class Distribution(nn.Module):
    """A net with a prior: nearest-neighbor plus noise, sure of itself on the left."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def encode(self, lr: Tensor) -> Tensor:
        """Return the input."""
        return lr

    def prior_of(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return a standard normal's moments, 2 channels."""
        return torch.zeros_like(h[:, :2]), torch.zeros_like(h[:, :2])

    def forward(self, lr: Tensor, eps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return picture and confidence."""
        noise = 0 if eps is None else 0.1 * eps[:, :1]
        sure = torch.zeros_like(lr[:, :1])
        sure[..., : sure.shape[-1] // 2] = 1
        return tuple(nn.functional.interpolate(x, scale_factor=2) for x in (lr + noise, sure))  # type: ignore[return-value]


def test_a_distribution_shows_samples_and_confidence() -> None:
    """Three different samples, and white where it is sure."""
    net = Distribution()
    lr = make_picture(12, 16)
    shown = dict(report.samples_and_confidence(net, lr))
    assert list(shown) == ["sample 1", "sample 2", "sample 3", "confidence"]
    assert not np.array_equal(shown["sample 1"], shown["sample 2"])
    assert np.all(shown["confidence"][:, :16] == 255)
    assert np.all(shown["confidence"][:, 16:] == 0)


def test_inputs_are_made_as_the_recipe_says(folder: Path) -> None:
    """A model of the real world is scored on real-world inputs, the same ones every time."""
    net = networks.build(RECIPE.network, 2)
    kind = DegradationRecipe(kind="realworld")
    model = subject.Model("m", 2, network(net), kind, net)
    a, b = subject.load_set(folder, model), subject.load_set(folder, model)
    np.testing.assert_array_equal(a[0].lr, b[0].lr)
    assert not np.array_equal(a[0].lr, load_pairs(folder, 2)[0].lr)


def test_inputs_of_another_kind(folder: Path, weights: Path, tmp_path: Path) -> None:
    """JPEG of the requested quality after the same reduction; the report names it."""
    model = subject.with_input(subject.load_model(weights, torch.device("cpu")), "jpeg40")
    wanted = jpeg(load_pairs(folder, 2)[0].lr, 40)
    np.testing.assert_array_equal(subject.load_set(folder, model)[0].lr, wanted)
    for kind in ("realworld", "jpeg40", "bicubic"):
        call = ["evaluate", str(weights), "--data", str(folder), "--out", str(tmp_path / kind)]
        assert main([*call, "--input", kind]) == 0
        assert json.loads((tmp_path / kind / "report.json").read_text())["input"] == kind
        assert f"Inputs: {kind}." in (tmp_path / kind / "report.md").read_text()


def test_a_model_behind_another(
    folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first model runs on the input; one that enlarges is rejected before any work."""
    model = subject.load_model(weights, torch.device("cpu"))
    first = subject.Model("i", 1, lambda lr: 255 - lr, DegradationRecipe())
    both, lr = subject.after(first, model), make_picture(12, 16)
    assert both.name == "i, tiny"
    np.testing.assert_array_equal(both.upscale(lr), model.upscale(255 - lr))
    call = ["evaluate", str(weights), "--data", str(folder), "--out", str(tmp_path / "out")]
    assert main([*call, "--before", str(weights)]) == 1
    assert "tiny enlarges 2 times, expected an x1 model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_restorer_is_scored_on_what_it_repairs(folder: Path, tmp_path: Path) -> None:
    """Weights by their recipe, a file by its family; `--input` overrides both."""
    table = {"name": "r", "family": "ae", "scale": 1, "data": {"patch_px": 16}}
    recipe = recipe_from_dict(table | {"corrupt": {"noise_max": 50.0}}, source="test")
    weights = tmp_path / "r.safetensors"
    state = networks.for_recipe(recipe).state_dict()
    checkpoint.save(weights, state, {"recipe": recipe.to_dict(), "step": 0})
    sets = {"set": load_pairs(folder, 1)}
    noisy = versions_of(sets, recipe.corrupt)["set noise 25"]
    for model, extra, names in (
        (weights, [], ["set noise 25"]),
        (srsdk.models.find("ae_x1.int8"), [], ["set noise 25", "set JPEG 10"]),
        (weights, ["--input", "bicubic"], ["set"]),
    ):
        out = tmp_path / f"out{len(names)}{len(extra)}"
        assert main(["evaluate", str(model), "--data", str(folder), "--out", str(out), *extra]) == 0
        rows = json.loads((out / "report.json").read_text())["rows"]
        assert list(dict.fromkeys(row["set"] for row in rows)) == names
        for name in names:
            assert (out / f"{name.replace(' ', '_')}.png").is_file()
        if not extra:
            wanted = score(lambda lr: lr, noisy, 1).psnr_y_db
            assert rows[0]["psnr_y_db"] == pytest.approx(wanted, abs=0.02)


def test_the_file_of_a_distribution_gives_its_mean() -> None:
    """Its second input is zero noise, as in srsdk."""
    model = subject.load_model(srsdk.models.find("vae_x4"), torch.device("cpu"))
    lr = make_picture(12, 16)
    with srsdk.Upscaler("vae_x4", backend="onnxruntime") as up:
        np.testing.assert_array_equal(model.upscale(lr), up(lr))


def test_the_shipped_statistics_are_readable() -> None:
    """36 features of many patches."""
    fitted = niqe.load()
    assert fitted.mean.shape == (36,)
    assert np.linalg.matrix_rank(fitted.covariance) == 36
    assert fitted.patches > 1000
