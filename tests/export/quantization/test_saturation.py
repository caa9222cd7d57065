"""INT8 for CPUs is exact on every processor: no pair of weights saturates 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export.graph.layers import conv_layers, quantizable, weights_of
from export.graph.session import open_session, session_run
from export.protocol import Source
from export.quantization.calibration import Calibration, Crops, Shape, calibrate, draw_crops
from export.quantization.channel_order import reordered
from export.quantization.equalization import chains
from export.quantization.integer_io import use_integer_io
from export.quantization.qdq import insert, quantize_weight
from export.quantization.rounding import STEPS, Rounded, measure, rounded
from export.quantization.saturation import (
    ABSENT,
    PAIR_LIMIT,
    neighbors,
    pair_sums,
    room,
    saturating_rows,
)
from export.sources.checkpoint import open_checkpoint
from export.targets import lint
from srsdk import models
from srsdk.manifest import read_manifest

INT8_FILES = [n for n in models.shipped() if n.endswith(".int8")]


@pytest.fixture(scope="module")
def source(weights: Path) -> Source:
    """The opened checkpoint."""
    return open_checkpoint(weights)


@pytest.fixture(scope="module")
def calibrated(source: Source, drawn: Path) -> tuple[onnx.ModelProto, Calibration]:
    """The float32 graph and its calibration."""
    model = source.graph("fp32", "uint8")
    crops = draw_crops(drawn, Shape(2), count=12)
    layers = quantizable(conv_layers(model), "cpu")
    found = calibrate(model, layers, crops)
    moments = measure(model, layers, crops.pixels)
    return model, Calibration(found.lows, found.highs, found.means, crops, moments)


def vpmaddubsw(
    activations: npt.NDArray[np.integer], weights: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """Sum products of bytes as x86 does without VNNI: pairs saturate at 16 bits."""
    products = activations.astype(np.int64) * weights
    pairs = np.clip(products[..., 0::2] + products[..., 1::2], -(1 << 15), (1 << 15) - 1)
    return np.asarray(pairs.sum(axis=-1), np.int64)


def packings(weight: npt.NDArray[np.int8]) -> list[npt.NDArray[np.int64]]:
    """Return the rows that kernels multiply: four channels per tap, and taps by channels."""
    out, channels = weight.shape[:2]
    last = weight.reshape(out, channels, -1).swapaxes(1, 2).astype(np.int64)
    padded = np.pad(last, ((0, 0), (0, 0), (0, -channels % 4)))
    flat = last.reshape(out, -1)
    return [padded.reshape(out, -1), np.pad(flat, ((0, 0), (0, -flat.shape[1] % 4)))]


def worst_errors(weight: npt.NDArray[np.int8]) -> int:
    """Return a kernel's largest error over activations that drive each row to its extremes."""
    error = 0
    for rows in packings(weight):
        for row in rows:
            for activations in (255 * (row > 0), 255 * (row < 0), np.full(len(row), 255)):
                error = max(error, abs(int(vpmaddubsw(activations, row) - activations @ row)))
    return error


def test_neighbors_by_hand() -> None:
    """Two channels at one tap; with an odd number also pairs in a row of taps by channels."""
    assert neighbors(4, 1).tolist() == [[1], [0], [3], [2]]
    # (channel, tap): 0 1 | 2 3 | 4 5; in rows of taps by channels: 0 2 | 4 1 | 3 5
    assert neighbors(3, 2).tolist() == [
        [2, 2],
        [3, 4],
        [0, 0],
        [1, 5],
        [ABSENT, 1],
        [ABSENT, 3],
    ]
    # one channel, two rows of three taps: 0 1 2 | 3 4 5; column by column: 0 3 | 1 4 | 2 5
    assert neighbors(1, 6, 3).tolist() == [
        [ABSENT, 1, 3],
        [ABSENT, 0, 4],
        [ABSENT, 3, 5],
        [ABSENT, 2, 0],
        [ABSENT, 5, 1],
        [ABSENT, 4, 2],
    ]


def test_what_a_kernel_does_at_the_bound() -> None:
    """A sum of 128 is exact, 129 is not, and opposite signs never saturate."""
    for pair, exact in (
        ([64, 64], True),
        ([65, 64], False),
        ([127, -127], True),
        ([-1, -128], False),
    ):
        weight = np.array(pair, np.int8).reshape(1, 2, 1, 1)
        assert (worst_errors(weight) == 0) == exact
        assert (len(saturating_rows(weight)) == 0) == exact


WEIGHTS = st.builds(
    lambda seed, channels, side: (
        np.random.default_rng(seed).standard_t(2, (4, channels, side, side)).astype(np.float32)
    ),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 3, 5, 8]),
    st.sampled_from([1, 2, 3]),
)


@given(weight=WEIGHTS)
def test_rounding_to_the_nearest_stays_in_the_bound(weight: npt.NDArray[np.float32]) -> None:
    """For any weights; the simulated kernels confirm that nothing saturates."""
    codes, _ = quantize_weight(weight, bounded=True)
    assert not len(saturating_rows(codes))
    assert worst_errors(codes) == 0


@given(weight=WEIGHTS, seed=st.integers(0, 2**32 - 1))
def test_gptq_rounding_stays_in_the_bound(weight: npt.NDArray[np.float32], seed: int) -> None:
    """For any inputs; and no single step would give a channel a smaller error."""
    taps = weight[0].size
    read = np.random.default_rng(seed).exponential(1, (3 * taps, taps))
    read = np.hstack([read, np.ones((len(read), 1))])
    moments = read.T @ read / len(read)
    base = np.abs(weight).reshape(len(weight), -1).max(axis=1) / 127
    steps = (STEPS[::6, None] * base).astype(np.float32)
    found = rounded(weight, steps, moments, bounded=True)
    assert worst_errors(found.codes) == 0

    def costs(result: Rounded) -> npt.NDArray[np.float64]:
        error = weight - result.codes * result.step.astype(np.float64)[:, None, None, None]
        rows = np.hstack([error.reshape(len(weight), -1), -result.bias_shift[:, None]])
        return np.asarray(np.einsum("ri,ij,rj->r", rows, moments, rows))

    for step in steps:
        one = rounded(weight, step[None], moments, bounded=True)
        assert np.all(costs(found) <= costs(one) * 1.001 + 1e-9)


def test_room_beside_a_neighbor() -> None:
    """The rest of 128 in the neighbor's sign, the full range of int8 in the other."""
    codes = np.array([[100, 0], [-100, 0], [0, 0]], np.int8)
    least, most = room(codes, 1, neighbors(2, 1), 127)
    assert least.tolist() == [-127, -28, -127]
    assert most.tolist() == [28, 127, 127]


def test_the_order_of_channels_changes_nothing_in_float(
    calibrated: tuple[onnx.ModelProto, Calibration],
) -> None:
    """The picture stays the same, and the calibration equals one of the new graph."""
    model, calibration = calibrated
    again, moved = reordered(model, calibration)
    crops = calibration.crops
    pairs = zip(conv_layers(model), conv_layers(again), strict=True)
    assert any(
        not np.array_equal(weights_of(model, a.weight), weights_of(again, b.weight))
        for a, b in pairs
    )
    for crop in crops.pixels[:3]:
        got, wanted = (session_run(m)(crop[None]).astype(int) for m in (again, model))
        assert np.abs(got - wanted).max() <= 1
    layers = quantizable(conv_layers(again), "cpu")
    measured, moments = calibrate(again, layers, crops), measure(again, layers, crops.pixels)
    for layer in layers:
        np.testing.assert_allclose(
            moved.highs[layer.name], measured.highs[layer.name], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            moved.moments[layer.name], moments[layer.name], rtol=1e-3, atol=1e-5
        )


def test_slopes_go_with_their_channels() -> None:
    """The slopes of a PReLU between two convolutions are reordered too."""
    random = np.random.default_rng(0)
    first = random.standard_t(2, (8, 3, 1, 1)).astype(np.float32)
    second = random.standard_t(2, (4, 8, 1, 1)).astype(np.float32)
    slopes = random.uniform(0, 1, (8, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["a"]),
        helper.make_node("PRelu", ["a", "slopes"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["upscaled"]),
    ]
    stored = {"first": first, "slopes": slopes, "second": second}
    graph = helper.make_graph(
        nodes,
        "slopes",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("upscaled", TensorProto.FLOAT, ["n", 4, "h", "w"])],
        [numpy_helper.from_array(values, name) for name, values in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (pair,) = chains(model)
    ones = {pair[1].name: np.ones(8)}
    nothing = no_crops()
    again, _ = reordered(model, Calibration(ones, ones, ones, nothing))
    assert not np.array_equal(weights_of(again, "slopes"), slopes)
    batch = random.uniform(0, 1, (1, 3, 5, 7)).astype(np.float32)
    got, wanted = (run_floats(m, batch) for m in (again, model))
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def no_crops() -> Crops:
    """Return empty crops for a calibration that does not use them."""
    return Crops((), (), (), 0)


def run_floats(model: onnx.ModelProto, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Run a float graph."""
    (result,) = open_session(model).run(None, {"image": batch})
    return np.asarray(result)


def test_a_float_head_keeps_float_input(calibrated: tuple[onnx.ModelProto, Calibration]) -> None:
    """If it read the picture's bytes, ONNX Runtime would quantize it itself, coarsely."""
    model, calibration = calibrated
    head = quantizable(conv_layers(model), "cpu")[0].name
    plain = insert(model, calibration, "cpu", skip={head})
    crop = calibration.crops.pixels[0][None]
    got, wanted = (session_run(m)(crop).astype(int) for m in (use_integer_io(plain), plain))
    assert np.abs(got - wanted).max() <= 1


def test_the_file_may_not_saturate(calibrated: tuple[onnx.ModelProto, Calibration]) -> None:
    """The lint accepts our file, and names the convolution if one pair is too large."""
    model, calibration = calibrated
    quantized = use_integer_io(insert(model, calibration, "cpu"))
    lint.check_saturation(quantized)
    stored = next(
        t
        for t in quantized.graph.initializer
        if t.data_type == TensorProto.INT8 and t.name.endswith("convs.1.weight.int")
    )
    codes = numpy_helper.to_array(stored).copy()
    codes[2, 0:2, 1, 1] = 65, 64
    stored.CopyFrom(numpy_helper.from_array(codes, stored.name))
    with pytest.raises(lint.LintError, match=r"1 of \d+ output channels .* sum up to 1\d\d, exp"):
        lint.check_saturation(quantized)


@pytest.mark.parametrize("name", INT8_FILES)
def test_shipped_files_cannot_saturate(name: str) -> None:
    """Every int8 weight of every shipped CPU file is within the bound."""
    path = models.find(name)
    manifest = read_manifest(path)
    assert manifest is not None
    assert manifest.flavour == "cpu"
    model = onnx.load(path)
    lint.check_saturation(model)
    # and the rule has checked all of them
    weights = [
        numpy_helper.to_array(t)
        for t in model.graph.initializer
        if t.data_type == TensorProto.INT8 and len(t.dims) == 4
    ]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    # what the export leaves in float has its weights as they are
    stored = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    quantized = [node for node in convolutions if node.input[1] not in stored]
    assert len(weights) == len(quantized) >= 0.9 * len(convolutions)
    assert max(float(pair_sums(weight).max()) for weight in weights) <= PAIR_LIMIT
