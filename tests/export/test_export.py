"""Export: what leaves is right, says what it is, and does not leave otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import srsdk
from export.__main__ import export, main
from export.graph import Uint8Graph, receptive_radius
from export.onnx_file import ExportError, build_onnx
from export.parity import gate
from tests.conftest import make_picture
from training import checkpoint, networks
from training.evaluate import network
from training.recipe import NetworkRecipe, recipe_from_dict

RECIPE = recipe_from_dict(
    {"name": "toy_x2", "scale": 2, "network": {"width": 8, "depth": 3}}, source="test"
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small random net."""
    torch.manual_seed(1)
    net = networks.build(RECIPE.network, 2)
    path = tmp_path_factory.mktemp("run") / "weights.safetensors"
    checkpoint.save(path, net.state_dict(), {"recipe": RECIPE.to_dict(), "step": 0})
    return path


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, exported and scored on drawn pictures."""
    folder = tmp_path_factory.mktemp("out")
    tests = folder / "drawn"
    tests.mkdir()
    Image.fromarray(make_picture(40, 60)).save(tests / "a.png")
    path = folder / "toy_x2.onnx"
    export(weights, path, tests=[tests], licence="CC0", training_data="drawn pictures")
    return path


def test_the_file_computes_what_the_network_computes(exported: Path, weights: Path) -> None:
    """Through srsdk, on either backend, at sizes never seen at export."""
    net = networks.build(RECIPE.network, 2)
    networks.warm_start(net, checkpoint.load(weights)[0])
    for backend in ("openvino", "onnxruntime"):
        with srsdk.Upscaler(exported, backend=backend) as up:
            for size in ((1, 1), (7, 90), (53, 31)):
                picture = make_picture(*size)
                expected = network(net.eval())(picture)
                assert np.abs(up(picture).astype(int) - expected).max() <= 1


def test_the_manifest_is_filled(exported: Path) -> None:
    """Everything that the file can know of itself."""
    with srsdk.Upscaler(exported) as up:
        manifest = up.manifest
    assert (manifest.name, manifest.family, manifest.scale) == ("toy_x2", "gan", 2)
    assert (manifest.channels, manifest.dtype, manifest.layout) == (3, "uint8", "NHWC")
    assert manifest.radius_px == 5
    assert manifest.precision == "fp32"
    assert manifest.scores["drawn"]["psnr_y_db"] > 15
    assert (manifest.licence, manifest.training_data) == ("CC0", "drawn pictures")
    assert len(manifest.weights_sha256) == 64
    assert set(manifest.built_with) == {"srsdk", "torch", "onnx"}


def test_the_file_is_clean(exported: Path, repository: Path) -> None:
    """uint8 NHWC, dynamic sizes, one file, and no path or code of the machine that made it."""
    model = onnx.load(exported)
    data = exported.read_bytes()
    for trace in (b"stack_trace", b".py", str(repository).encode(), b"site-packages"):
        assert trace not in data
    (image,), (result,) = model.graph.input, model.graph.output
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert result.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    dims = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert dims == ["batch", "height", "width", 3]
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [20]
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.index("Cast") < kinds.index("Transpose")
    assert kinds[-3:] == ["Round", "Transpose", "Cast"]


@pytest.mark.parametrize(("depth", "radius"), [(1, 3), (8, 10)])
def test_the_receptive_field_is_counted(depth: int, radius: int) -> None:
    """Each 3x3 convolution adds one pixel, whatever the weights are."""
    net = networks.build(NetworkRecipe(width=4, depth=depth), 2)
    assert receptive_radius(net, 2) == radius
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert receptive_radius(net, 2) == radius


class SeesEverything(nn.Module):
    """Adds the picture's mean."""

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge twice."""
        y = x + x.mean(dim=(2, 3), keepdim=True)
        return y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def test_global_context_is_noticed() -> None:
    """No halo makes tiles of such a network equal to the whole: it is refused, not guessed."""
    with pytest.raises(ValueError, match="global context"):
        receptive_radius(SeesEverything(), 2)


class FixedSize(nn.Module):
    """Bakes its output size in."""

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge twice, at the size of the trace."""
        return nn.functional.interpolate(x, size=(104, 136))


def test_a_size_that_was_baked_in_is_refused() -> None:
    """The exporter does so in silence; the dimensions tell."""
    with pytest.raises(ExportError, match="expected"):
        build_onnx(Uint8Graph(FixedSize()), 2)


def test_the_gate_refuses_a_file_that_computes_something_else() -> None:
    """One weight off by a little: no file."""
    torch.manual_seed(0)
    graph = Uint8Graph(networks.build(NetworkRecipe(width=4, depth=1), 2)).eval()
    model = build_onnx(graph, 2)
    assert gate(model, graph).max_lsb <= 1
    with torch.no_grad():
        next(graph.parameters()).add_(0.02)
    with pytest.raises(ExportError, match=r"differ by up to \d+ LSB"):
        gate(model, graph)


def test_nothing_is_written_when_the_gate_fails(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 1, one sentence, an empty folder."""
    monkeypatch.setattr("export.parity.MAX_LSB", -1)
    assert main([str(weights), "-o", str(tmp_path / "a.onnx")]) == 1
    assert capsys.readouterr().err.startswith("export: parity: ")
    assert list(tmp_path.iterdir()) == []


def test_command_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It reports what it wrote, and refuses to replace it without being told."""
    call = [str(weights), "-o", str(tmp_path / "a.onnx")]
    assert main(call) == 0
    assert "receptive-field radius 5 px" in capsys.readouterr().out
    assert main(call) == 1
    assert "--force replaces it" in capsys.readouterr().err
    for bad, message in (
        ([str(tmp_path / "none"), "-o", str(tmp_path / "b.onnx")], "no such file"),
        ([str(weights), "-o", str(tmp_path / "b.engine")], "ends in .onnx"),
        ([str(weights), "-o", str(tmp_path / "none" / "b.onnx")], "no such folder"),
    ):
        assert main(bad) == 1
        assert message in capsys.readouterr().err


def test_a_reparametrised_net_is_exported_merged(tmp_path: Path) -> None:
    """The file holds as many convolutions as a plain net, and computes the same."""
    table = RECIPE.to_dict() | {"network": {"width": 8, "depth": 3, "reparam": True}}
    recipe = recipe_from_dict(table, source="test")
    torch.manual_seed(1)
    net = networks.build(recipe.network, 2).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    checkpoint.save(tmp_path / "w.safetensors", net.state_dict(), {"recipe": table})
    export(tmp_path / "w.safetensors", tmp_path / "toy.onnx")
    nodes = [node.op_type for node in onnx.load(tmp_path / "toy.onnx").graph.node]
    assert nodes.count("Conv") == 6  # head, 3, tail, anchor
    picture = make_picture(20, 31)
    with srsdk.Upscaler(tmp_path / "toy.onnx", backend="onnxruntime") as up:
        assert np.abs(up(picture).astype(int) - network(net)(picture)).max() <= 1
