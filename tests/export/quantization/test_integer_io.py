"""Integer input and output: the same pixels with fewer float operations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import srsdk
from export.evaluation.parity import flat_patches
from export.graph.layers import conv_layers, quantizable
from export.graph.onnx_file import build_onnx
from export.graph.session import open_session, session_run
from export.graph.wrapper import FloatGraph, Uint8Graph
from export.options import Options
from export.pipeline import export
from export.quantization.calibration import Calibration, Shape, calibrate, draw_crops
from export.quantization.integer_io import reorder_for_row_copies, use_integer_io
from export.quantization.qdq import insert
from export.quantization.rounding import divided, measure, rounded
from srsdk.formats.onnx_rewrite import with_float_boundary
from tests.conftest import make_picture
from training import networks
from training.recipe.schema import recipe_from_dict


def plain(scale: int) -> nn.Module:
    """Return a small plain net with random weights."""
    torch.manual_seed(scale)
    table = {"name": "toy", "scale": scale, "network": {"width": 8, "depth": 2}}
    recipe = recipe_from_dict(table, source="test")
    net = networks.build(recipe.network, scale)
    with torch.no_grad():
        for parameter in net.convs[-1].parameters():
            parameter.mul_(0.3)
    return net.eval()


class Steps(nn.Module):
    """Two shuffles and no anchor, as in third-party networks."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(4, 12, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge four times."""
        x = torch.pixel_shuffle(torch.relu(self.head(x)), 2)
        return torch.pixel_shuffle(self.tail(x), 2) + 0.5


class Unshuffled(nn.Module):
    """No shuffle, and a skip connection from the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore."""
        residual: torch.Tensor = self.convs(x)
        return x + residual


class Compact(nn.Module):
    """Like SRVGGNetCompact: PReLU, and nearest-neighbor pixels added after the shuffle."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.PReLU(8), nn.Conv2d(8, 27, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Enlarge three times."""
        nearest = nn.functional.interpolate(x, scale_factor=3, mode="nearest")
        return torch.pixel_shuffle(self.body(x), 3) + nearest


NETS = {
    "x2": (plain(2), 2),
    "x3": (plain(3), 3),
    "steps": (Steps(), 4),
    "same": (Unshuffled(), 1),
    "compact": (Compact(), 3),
}


@pytest.fixture(scope="module", params=sorted(NETS))
def quantized(request: Any, drawn: Path) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A float graph, and its INT8 form before `use_integer_io`."""
    network, scale = NETS[request.param]
    model = build_onnx(Uint8Graph(network.eval()), scale)
    layers = quantizable(conv_layers(model), "cpu")
    crops = draw_crops(drawn, Shape(1), count=8)
    calibration = calibrate(model, layers, crops, flat_patches(3, 1, None))
    return model, insert(reorder_for_row_copies(model), calibration, "cpu")


def batch() -> np.ndarray:
    """Return two pictures with black and white areas."""
    pictures = np.stack([make_picture(37, 50, 3), 255 - make_picture(37, 50, 4)])
    pictures[0, :9], pictures[1, :, :9] = 255, 0
    return pictures


def test_channels_in_rows_change_no_pixel(
    quantized: tuple[onnx.ModelProto, onnx.ModelProto],
) -> None:
    """The float network stays the same."""
    model, _ = quantized
    apart = session_run(reorder_for_row_copies(model))(batch()).astype(int) - session_run(model)(
        batch()
    )
    assert np.abs(apart).max() <= 1  # at rounding ties: sums are added in another order
    assert np.mean(apart != 0) < 1e-3


def test_byte_ends_change_no_pixel(quantized: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    """Every form of network gives valid ONNX and the same pixels, except at rounding ties."""
    _, before = quantized
    after = use_integer_io(before)
    onnx.checker.check_model(after, full_check=True)
    assert after.graph.output == before.graph.output
    assert {"boundary.head", "boundary.tail"} <= {node.name for node in after.graph.node}
    assert not {"Cast", "Round"} & {node.op_type for node in after.graph.node}
    got, wanted = (session_run(model)(batch()) for model in (after, before))
    assert got.shape == wanted.shape
    apart = np.abs(got.astype(int) - wanted)
    assert apart.max() <= 2
    assert np.mean(apart > 0) < 0.01


@pytest.mark.parametrize("name", ["x2", "x3", "compact"])
def test_nothing_but_bytes_between_the_convolutions_of_upscalers(name: str, drawn: Path) -> None:
    """The anchor is in bytes, rows are copied, and no cast, division or rounding remains."""
    network, scale = NETS[name]
    model = reorder_for_row_copies(build_onnx(Uint8Graph(network.eval()), scale))
    calibration = calibrated(model, drawn)
    after = use_integer_io(insert(model, calibration, "cpu"))
    kinds = {node.op_type for node in after.graph.node}
    assert not kinds & {"Cast", "Div", "Round", "DepthToSpace", "Resize"}
    assert {"Split", "Concat"} <= kinds
    read = {node.output[0]: node.input[0] for node in after.graph.node}
    anchor = next(n for n in after.graph.node if n.output[0] == "boundary.anchor")
    assert anchor.op_type == "Conv"
    assert read[anchor.input[0]] == "boundary.units"
    # bytes written by a QuantizeLinear: OpenVINO on ARM64 accepts no others
    assert read[read["boundary.units"]] == "boundary.planes"


def calibrated(model: onnx.ModelProto, drawn: Path) -> Calibration:
    """Calibrate on synthetic pictures."""
    layers = quantizable(conv_layers(model), "cpu")
    crops = draw_crops(drawn, Shape(1), count=8)
    return calibrate(model, layers, crops, flat_patches(3, 1, None))


def test_a_float_boundary_stays(drawn: Path) -> None:
    """Float pictures have more than 255 levels, so input and output are not quantized."""
    model = build_onnx(FloatGraph(plain(2)), 2, dtype=torch.float32)
    before = insert(model, calibrated(build_onnx(Uint8Graph(plain(2)), 2), drawn), "cpu")
    assert use_integer_io(before) is before


def test_pictures_of_more_than_8_bits_keep_them(weights: Path, drawn: Path, tmp_path: Path) -> None:
    """They use the same file; the runtime removes its integer input and output."""
    export(weights, tmp_path, Options(targets=("openvino-int8",), data=drawn))
    path = tmp_path / "toy_x2.int8.onnx"
    derived = onnx.load_from_string(with_float_boundary(path.read_bytes()))
    onnx.checker.check_model(derived, full_check=True)
    picture = make_picture(40, 56)
    floats = open_session(derived).run(None, {"image": picture[None].astype(np.float32)})[0]
    levels = session_run(onnx.load(path))(picture[None])
    apart = np.abs(np.rint(floats) - levels)
    assert apart.max() <= 3  # the head reads floats there, and its output is rounded
    assert apart.mean() < 0.1
    ramp = np.linspace(20000, 21000, 64).astype(np.uint16)
    deep = np.broadcast_to(ramp[None, :, None], (48, 64, 3))
    for backend in ("onnxruntime", "openvino"):
        with srsdk.Upscaler(path, backend=backend) as up:
            assert len(np.unique(up(np.ascontiguousarray(deep)))) > 60


def test_gptq_rounding_has_a_smaller_output_error() -> None:
    """Smaller than with rounding to the nearest, on inputs correlated as in pictures."""
    random = np.random.default_rng(0)
    common = random.normal(1, 1, (4000, 1))
    read = common + random.normal(0, 0.3, (4000, 27))
    full = np.hstack([read, np.ones((4000, 1))])
    moments = full.T @ full / len(full)
    weight = random.normal(0, 0.2, (16, 3, 3, 3)).astype(np.float32)
    step = np.abs(weight).reshape(16, -1).max(axis=1) / 127
    found = rounded(weight, step[None], moments)
    codes, shift = found.codes, found.bias_shift
    assert np.array_equal(found.step, step)
    assert np.abs(codes).max() == 127
    rows = weight.reshape(16, -1)
    nearest = np.round(rows / step[:, None]) * step[:, None]
    ours = codes.reshape(16, -1) * step[:, None]
    assert np.abs(ours - rows).max() < 4 * step.max()
    wanted = read @ rows.T
    error = np.mean((read @ ours.T + shift - wanted) ** 2)
    plain_error = np.mean((read @ nearest.T - wanted) ** 2)
    assert error < plain_error / 10
    assert abs(float(np.mean(read @ ours.T + shift - wanted))) < 1e-3
    without = rounded(weight, step[None], moments[:-1, :-1])
    assert without.codes.shape == codes.shape
    assert not without.bias_shift.any()


def test_moments_are_those_of_the_patches() -> None:
    """They equal a loop over pixels, also when divided; a dilated convolution is excluded."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, dilation=2), nn.Conv2d(4, 3, 1)
    )
    model = _graph_of(net)
    layers = conv_layers(model)
    picture = make_picture(12, 14)
    moments = measure(model, layers, [picture])
    assert set(moments) == {layers[0].name, layers[2].name}
    x = picture.astype(np.float64).transpose(2, 0, 1) / 255
    rows = [np.append(x[:, i : i + 3, j : j + 3].ravel(), 1) for i in range(10) for j in range(12)]
    wanted = np.mean([np.outer(row, row) for row in rows], axis=0)
    np.testing.assert_allclose(moments[layers[0].name], wanted, rtol=1e-5)
    halves = divided(moments, {layers[0].name: np.array([1, 2, 1], np.float32)})
    x[1] /= 2
    rows = [np.append(x[:, i : i + 3, j : j + 3].ravel(), 1) for i in range(10) for j in range(12)]
    wanted = np.mean([np.outer(row, row) for row in rows], axis=0)
    np.testing.assert_allclose(halves[layers[0].name], wanted, rtol=1e-5)


def _graph_of(net: nn.Sequential) -> onnx.ModelProto:
    """Build the graph by hand: its output is smaller than its input, which the exporter rejects."""
    constants, nodes = [], []
    source = "unit"
    for index, conv in enumerate(net):
        assert isinstance(conv, nn.Conv2d)
        constants.append(numpy_helper.from_array(conv.weight.detach().numpy(), f"w{index}"))
        made = f"c{index}"
        sizes = {"dilations": list(conv.dilation), "pads": [0] * 4}
        nodes.append(helper.make_node("Conv", [source, f"w{index}"], [made], **sizes))
        source = made
    constants.append(numpy_helper.from_array(np.float32(255), "white"))
    head = [
        helper.make_node("Cast", ["image"], ["f"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Div", ["f", "white"], ["g"]),
        helper.make_node("Transpose", ["g"], ["unit"], perm=[0, 3, 1, 2]),
    ]
    ports = [
        helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, "h", "w", 3]),
        helper.make_tensor_value_info(source, onnx.TensorProto.FLOAT, None),
    ]
    graph = helper.make_graph([*head, *nodes], "toy", ports[:1], ports[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
