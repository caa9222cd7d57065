"""Export of the families `ae` and `vae`, and of networks for real-world degradations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import srsdk
from export.cli import main
from export.graph.session import session_run
from export.options import Options
from export.pipeline import export
from srsdk.manifest import read_manifest
from tests.conftest import make_picture
from training import checkpoint, networks
from training.evaluation.evaluate import network
from training.recipe.schema import Recipe, recipe_from_dict


def save(path: Path, table: dict[str, object]) -> tuple[Recipe, torch.nn.Module]:
    """Save a checkpoint of a new net, with noise on its weights so that none is zero."""
    recipe = recipe_from_dict(table, source="test")
    torch.manual_seed(3)
    net = networks.for_recipe(recipe)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    checkpoint.save(path, net.state_dict(), {"recipe": recipe.to_dict(), "step": 0})
    return recipe, net.eval()


def test_an_autoencoder(tmp_path: Path) -> None:
    """The manifest holds its size multiple and large receptive field; tiled equals untiled."""
    table = {"name": "toy_ae", "family": "ae", "scale": 1, "ae": {"width": 8}}
    _, net = save(tmp_path / "w.safetensors", {**table, "data": {"patch_px": 64}})
    export(tmp_path / "w.safetensors", tmp_path / "toy_ae.onnx", Options())
    manifest = read_manifest(tmp_path / "toy_ae.onnx")
    assert manifest is not None
    assert (manifest.family, manifest.scale, manifest.multiple_px) == ("ae", 1, 8)
    assert manifest.radius_px == 77
    assert not manifest.radius_measured
    picture = make_picture(203, 331)
    for backend in ("onnxruntime", "openvino"):
        with srsdk.Upscaler(tmp_path / "toy_ae.onnx", backend=backend) as up:
            whole = up(picture).astype(int)
        assert np.abs(whole - network(net)(picture)).max() <= 1
        side = 2 * manifest.radius_px + 8
        tile = side + -side % 8 + 8
        with srsdk.Upscaler(tmp_path / "toy_ae.onnx", backend=backend, tile=tile) as up:
            assert np.abs(up(picture) - whole).max() <= 1


def test_int8_of_an_autoencoder(tmp_path: Path, drawn: Path, truth: Path) -> None:
    """It passes the gate, the report lists all layers, and it upscales any size.

    It is scored on the damage that it repairs.
    """
    table = {"name": "toy_ae", "family": "ae", "scale": 1, "ae": {"width": 8}}
    damage = {"noise_max": 50.0, "jpeg_max": 95}
    save(tmp_path / "w.safetensors", {**table, "data": {"patch_px": 72}, "corrupt": damage})
    options = Options(targets=("openvino-int8",), data=drawn, tests=(truth,))
    report = export(tmp_path / "w.safetensors", tmp_path / "toy.onnx", options)
    (made,) = report.made
    assert made.parity is not None
    assert made.parity.patch_lsb <= 2
    assert set(made.manifest.scores) == {f"{truth.name} noise 25", f"{truth.name} JPEG 10"}
    assert all(abs(score["loss_db"]) < 0.1 for score in made.manifest.scores.values())
    quantized = report.quantized["cpu"]
    assert set(quantized.sensitivity_db) == {*quantized.layers, *quantized.restored_to_float}
    with srsdk.Upscaler(tmp_path / "toy.onnx") as up:
        assert up(make_picture(37, 50)).shape == (37, 50, 3)


def test_a_network_for_the_real_world_is_scored_there(tmp_path: Path, truth: Path) -> None:
    """It is scored on the plain folder, and again on inputs degraded by its recipe."""
    table = {"name": "toy", "scale": 4, "network": {"width": 4, "depth": 1}}
    save(tmp_path / "w.safetensors", {**table, "degradation": {"kind": "realworld"}})
    report = export(tmp_path / "w.safetensors", tmp_path / "toy.onnx", Options(tests=(truth,)))
    (made,) = report.made
    assert set(made.manifest.scores) == {truth.name, f"{truth.name} realworld"}
    clean, found = (score["psnr_y_db"] for score in made.manifest.scores.values())
    assert found < clean


VAE = {
    "name": "toy_vae",
    "family": "vae",
    "scale": 2,
    "network": {"width": 8, "depth": 2},
    "vae": {"latent": 4, "decoder_depth": 1},
}


def test_a_vae(tmp_path: Path) -> None:
    """The files have two inputs and two outputs, and compute the network's mean."""
    _, net = save(tmp_path / "w.safetensors", VAE)
    export(tmp_path / "w.safetensors", tmp_path, Options(precisions=("fp32", "fp16")))
    model = onnx.load(tmp_path / "toy_vae.onnx")
    assert [port.name for port in model.graph.input] == ["image", "eps"]
    assert [port.name for port in model.graph.output] == ["upscaled", "confidence"]
    manifest = read_manifest(tmp_path / "toy_vae.onnx")
    assert manifest is not None
    assert (manifest.family, manifest.precision) == ("vae", "fp32")
    picture = make_picture(17, 26)
    mean = session_run(model)(picture[None])[0]
    assert np.abs(mean.astype(int) - network(net)(picture)).max() <= 1
    half = session_run(onnx.load(tmp_path / "toy_vae.fp16.onnx"))(picture[None])[0]
    assert np.abs(half.astype(int) - mean).max() <= 2
    for backend in ("onnxruntime", "openvino"):
        with srsdk.Upscaler(tmp_path / "toy_vae.onnx", backend=backend) as up:
            assert np.abs(up(picture).astype(int) - mean).max() <= 1


def test_noise_makes_samples(tmp_path: Path) -> None:
    """Equal noise gives equal pictures, other noise another; confidence is between 0 and 1."""
    import onnxruntime

    save(tmp_path / "w.safetensors", VAE)
    export(tmp_path / "w.safetensors", tmp_path / "v.onnx", Options())
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(tmp_path / "v.onnx"), providers=providers)
    picture = make_picture(12, 20)[None]
    random = np.random.default_rng(0)
    noise = [30 * random.normal(size=(1, 4, 12, 20)).astype(np.float32) for _ in range(2)]
    a, confidence = session.run(None, {"image": picture, "eps": noise[0]})
    again, _ = session.run(None, {"image": picture, "eps": noise[0]})
    other, _ = session.run(None, {"image": picture, "eps": noise[1]})
    np.testing.assert_array_equal(a, again)
    assert np.any(a != other)
    assert confidence.shape == (1, 24, 40, 1)
    assert np.all((confidence >= 0) & (confidence <= 1))


def test_an_engine_of_a_vae(tmp_path: Path) -> None:
    """The profile includes a shape for the noise."""
    pytest.importorskip("tensorrt_rtx")
    save(tmp_path / "w.safetensors", VAE)
    options = Options(precisions=("fp16",), targets=("rtx",), profiles=((1, 64, 96),))
    export(tmp_path / "w.safetensors", tmp_path, options)
    manifest = read_manifest(tmp_path / "toy_vae.fp16.engine")
    assert manifest is not None
    assert manifest.family == "vae"
    assert manifest.size_px == (64, 96)


def test_what_is_not_offered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """INT8 of a vae and the textbook forms give a one-line error and no file."""
    save(tmp_path / "w.safetensors", VAE)
    call = [str(tmp_path / "w.safetensors"), "-o", str(tmp_path / "v.onnx")]
    assert main([*call, "--precision", "int8", "--data", str(tmp_path)]) == 2
    assert "INT8 of a vae is not supported" in capsys.readouterr().err
    small = {"name": "s", "family": "ae", "scale": 1, "small": {"on": True}}
    save(tmp_path / "s.safetensors", {**small, "data": {"patch_px": 32}})
    assert main([str(tmp_path / "s.safetensors"), "-o", str(tmp_path / "s.onnx")]) == 1
    assert "are not upscalers" in capsys.readouterr().err
    assert not (tmp_path / "v.onnx").exists()
    assert not (tmp_path / "s.onnx").exists()
