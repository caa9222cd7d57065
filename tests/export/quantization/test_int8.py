"""INT8: placement of the Q/DQ pairs, their results, calibration and the quality gate."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import srsdk
from export.cli import main
from export.errors import ExportError, GateError
from export.evaluation.parity import LIMITS, Parity, flat_patches
from export.evaluation.quality import MAX_LOSS_DB, Evaluator, problems
from export.graph.layers import Flavour, Layer, conv_layers, quantizable
from export.graph.session import session_run
from export.options import Options
from export.pipeline import export
from export.protocol import Source
from export.quantization.calibration import Shape, calibrate, draw_crops
from export.quantization.equalization import chains, equalized, factors
from export.quantization.mixed_precision import quantize
from export.quantization.qdq import (
    activation_scale,
    bias_shift,
    insert,
    quantize_bias,
    quantize_weight,
)
from export.record import Report
from export.sources.checkpoint import open_checkpoint
from export.targets import lint
from tests.conftest import make_picture

CONVS = [f"network.convs.{i}.weight" for i in range(5)]
FLAVOURS: tuple[Flavour, ...] = ("cpu", "gpu")
NO_WORK = ("Const", "Reshape", "Input", "Output")
QUANTIZED: dict[Flavour, list[str]] = {"cpu": CONVS, "gpu": CONVS[1:]}


@pytest.fixture(scope="module")
def source(weights: Path) -> Source:
    """The opened checkpoint."""
    return open_checkpoint(weights)


@pytest.fixture(scope="module")
def graphs(source: Source) -> dict[str, onnx.ModelProto]:
    """Its float graphs."""
    return {precision: source.graph(precision, "uint8") for precision in ("fp32", "fp16")}


@pytest.fixture(scope="module")
def made(weights: Path, drawn: Path, truth: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Both INT8 files and their report."""
    folder = tmp_path_factory.mktemp("int8")
    options = Options(precisions=("int8",), data=drawn, tests=(truth,))
    return folder, export(weights, folder, options)


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    """Return the layers to calibrate."""
    return quantizable(conv_layers(model), "cpu")


def nodes_of(model: onnx.ModelProto, kind: str) -> list[Any]:
    """Return the nodes of one operator type."""
    return [node for node in model.graph.node if node.op_type == kind]


def test_what_may_be_quantized(source: Source, graphs: dict[str, onnx.ModelProto]) -> None:
    """All layers but the anchor; for GPUs and float pictures, without the head too."""
    for model in graphs.values():
        layers = conv_layers(model)
        assert len(layers) == 6
        for flavour, names in QUANTIZED.items():
            assert [layer.name for layer in quantizable(layers, flavour)] == names
        assert {layer.name for layer in layers if layer.is_tail} == {
            "network.anchor",
            "network.convs.4.weight",
        }
    floats = conv_layers(source.graph("fp32", "float32"))
    assert [layer.name for layer in quantizable(floats, "cpu")] == CONVS[1:]


@pytest.mark.parametrize(
    ("flavour", "precision", "kind", "bias"),
    [("cpu", "fp32", TensorProto.UINT8, True), ("gpu", "fp16", TensorProto.INT8, False)],
)
def test_the_two_flavours(
    graphs: dict[str, onnx.ModelProto],
    drawn: Path,
    flavour: Any,
    precision: str,
    kind: int,
    bias: bool,
) -> None:
    """CPU: unsigned, INT32 biases. GPU: signed, zero points 0, float biases, float16 scales."""
    model = graphs["fp32"]
    calibration = calibrate(model, layers_of(model), draw_crops(drawn, Shape(2), count=12))
    result = insert(graphs[precision], calibration, flavour)
    onnx.checker.check_model(result, full_check=True)
    constants = {t.name: t for t in result.graph.initializer}
    quantizers = nodes_of(result, "QuantizeLinear")
    assert len(quantizers) == len(QUANTIZED[flavour])
    assert {constants[node.input[2]].data_type for node in quantizers} == {kind}
    dequantized = {node.output[0]: node for node in nodes_of(result, "DequantizeLinear")}
    convs = [n for n in nodes_of(result, "Conv") if n.input[0] in dequantized]
    assert len(convs) == len(QUANTIZED[flavour])
    for conv in convs:
        weight = constants[dequantized[conv.input[1]].input[0]]
        assert weight.data_type == TensorProto.INT8
        assert (conv.input[2] in dequantized) == bias
    if flavour == "gpu":
        lint.check(result, sms=(86, 89, 120))
        scales = {constants[node.input[1]].data_type for node in dequantized.values()}
        assert scales == {TensorProto.FLOAT16}
        zeros = [numpy_helper.to_array(constants[n.input[2]]) for n in dequantized.values()]
        assert not any(np.any(zero) for zero in zeros)


def test_the_graph_computes_with_its_integer_weights(
    graphs: dict[str, onnx.ModelProto], drawn: Path
) -> None:
    """It agrees with a float graph of rounded weights, up to the rounding of activations."""
    model = graphs["fp32"]
    crops = draw_crops(drawn, Shape(2), count=12)
    calibration = calibrate(model, layers_of(model), crops)
    for flavour in FLAVOURS:
        twin = onnx.ModelProto()
        twin.CopyFrom(model)
        for tensor in twin.graph.initializer:
            if tensor.name in QUANTIZED[flavour]:
                values, scale = quantize_weight(numpy_helper.to_array(tensor))
                rounded = values.astype(np.float32) * scale.step[:, None, None, None]
                tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
        only_weights = session_run(twin)(crops.pixels[0][None])
        whole = session_run(insert(model, calibration, flavour))(crops.pixels[0][None])
        apart = np.abs(whole.astype(int) - only_weights)
        # activations are rounded to 1 in 255 or 1 in 127 of their range, four times
        assert apart.mean() < 1.5
        assert apart.max() <= 12


@given(low=st.floats(-1e3, 0), high=st.floats(0, 1e3), value=st.floats(0, 1))
def test_activations_come_back(low: float, high: float, value: float) -> None:
    """Within half a step; 0, the value of padding, is exact."""
    for flavour in ("cpu", "gpu"):
        scale = activation_scale(low, high, flavour)
        step, zero = float(scale.step), int(scale.zero)
        least, most = (0, 255) if flavour == "cpu" else (-127, 127)
        real = low + (high - low) * value
        code = min(max(round(real / step) + zero, least), most)
        assert abs((code - zero) * step - real) <= step * 1.01
        assert least <= zero <= most


def test_weights_and_biases_by_hand() -> None:
    """Literal numbers, a channel of zeros, and float16 steps."""
    weight = np.array([[[[1.27, -0.635]]], [[[0.0, 0.0]]]], np.float32)
    values, scale = quantize_weight(weight)
    assert values.ravel().tolist() == [127, -64, 0, 0]
    assert scale.step[0] == np.float32(0.01)
    _, half = quantize_weight(weight, np.float16)
    assert half.step.dtype == np.float16
    assert half.step[1] > 0
    bias, step = np.array([0.05, -1e9], np.float32), np.array([0.01, 1e-9], np.float32)
    assert quantize_bias(bias, step).tolist() == [5, -np.iinfo(np.int32).max]


def test_equalization_does_not_change_the_network(
    graphs: dict[str, onnx.ModelProto], drawn: Path
) -> None:
    """The picture stays the same in either precision; the smallest channel grows."""
    model = graphs["fp32"]
    crops = draw_crops(drawn, Shape(2), count=12)
    before = calibrate(model, layers_of(model), crops)
    divisors = factors(model, before.peaks)
    assert [reader.name for _, reader in chains(model)] == CONVS[1:]
    for graph in graphs.values():
        even = equalized(graph, divisors)
        for crop in crops.pixels[:3]:
            got, wanted = (session_run(m)(crop[None]).astype(int) for m in (even, graph))
            assert np.abs(got - wanted).max() <= 1
    after = calibrate(equalized(model, divisors), layers_of(model), crops)
    for name in CONVS[1:]:
        alive = before.peaks[name] > 0
        was, now = (peaks[name][alive] / peaks[name].max() for peaks in (before.peaks, after.peaks))
        assert now.min() > was.min()


def test_a_tensor_with_two_readers_is_not_equalized() -> None:
    """The other reader would get different values."""
    weight = np.ones((8, 8, 3, 3), np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "head"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["c"], pads=[1] * 4),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("Conv", ["d", "w2"], ["e"]),
        helper.make_node("Conv", ["e", "w3"], ["upscaled"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two readers",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("upscaled", TensorProto.FLOAT, ["n", 8, "H", "W"])],
        [
            numpy_helper.from_array(weight[:, :3], "head"),
            *(numpy_helper.from_array(weight, name) for name in ("w1", "w2", "w3")),
        ],
    )
    assert [reader.name for _, reader in chains(helper.make_model(graph))] == ["w3"]


def test_the_mean_comes_back() -> None:
    """The bias corrects the weights' rounding error for the mean input."""
    random = np.random.default_rng(0)
    exact = random.normal(0, 1, (4, 3, 3, 3)).astype(np.float32)
    means = np.array([0.5, 1.0, 2.0])
    values, scale = quantize_weight(exact)
    shift = bias_shift(exact, values, scale, means)
    picture = np.ones((3, 3, 3)) * means[:, None, None]
    rounded = values * scale.step[:, None, None, None]
    assert np.allclose(
        (rounded * picture).sum(axis=(1, 2, 3)) + shift,
        (exact * picture).sum(axis=(1, 2, 3)),
        atol=1e-4,
    )


def test_crops_are_seeded_and_hashed(drawn: Path) -> None:
    """The same seed draws the same pixels; another draws others."""
    first, again, other = (draw_crops(drawn, Shape(2), seed=s, count=12) for s in (3, 3, 4))
    assert first.sha256 == again.sha256
    assert first.digest != other.digest
    assert len(set(first.files)) == 10
    assert all(crop.shape[2] == 3 and crop.dtype == np.uint8 for crop in first.pixels)
    (gray,) = {crop.shape[2] for crop in draw_crops(drawn, Shape(2, 1), count=9).pixels}
    assert gray == 1
    fixed = draw_crops(drawn, Shape(2, size_px=(24, 32)), count=9)
    assert {crop.shape for crop in fixed.pixels} == {(24, 32, 3)}


def test_useless_calibration_pictures(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three pictures, or ten flat ones, give a one-line error and no file."""
    folder, out = tmp_path / "gray", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    call = [str(weights), "-o", str(out), "--precision", "int8", "--data", str(folder)]
    for count, message in (
        (3, "3 usable pictures, calibration needs at least 8"),
        (10, "too flat for calibration"),
    ):
        for index in range(count):
            Image.new("RGB", (80, 80), (128, 128, 128)).save(folder / f"{index}.png")
        assert main(call) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error
    assert list(out.iterdir()) == []


def test_files_and_report(made: Any) -> None:
    """Two files with losses in their manifests, and a report with calibration and layers."""
    folder, report = made
    assert sorted(path.name for path in folder.iterdir()) == [
        "toy_x2.int8.gpu.onnx",
        "toy_x2.int8.onnx",
    ]
    flavours = {m.manifest.flavour: m.manifest for m in report.made}
    for flavour, manifest in flavours.items():
        assert manifest.precision == "int8"
        (score,) = manifest.scores.values()
        assert score["loss_db"] <= MAX_LOSS_DB[flavour][2]
        assert manifest.parity_db is not None
        assert manifest.parity_of == "file"
    values = report.to_dict()
    assert len(values["calibration"]["sha256"]) == values["calibration"]["crops"]
    assert set(values["int8"]) == {"cpu", "gpu"}
    assert set(values["int8"]["cpu"]["sensitivity_db"]) == set(CONVS)


def test_the_cpu_file_runs_on_both_backends(made: Any) -> None:
    """In srsdk, both give the same picture up to 4 levels."""
    folder, _ = made
    picture = make_picture(53, 67)
    results = []
    for backend in ("openvino", "onnxruntime"):
        with srsdk.Upscaler(folder / "toy_x2.int8.onnx", backend=backend) as up:
            results.append(up(picture).astype(int))
    assert results[0].shape == (106, 134, 3)
    assert np.abs(results[0] - results[1]).max() <= 4


def test_openvino_computes_in_int8(made: Any) -> None:
    """All convolutions run on bytes, the last one with its sum, and no layer in float."""
    folder, _ = made
    core = ov.Core()
    model = core.read_model(folder / "toy_x2.int8.onnx")
    model.reshape([1, 48, 64, 3])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = [
        (
            op.get_rt_info()["layerType"].astype(str),
            op.get_rt_info()["runtimePrecision"].astype(str),
        )
        for op in compiled.get_runtime_model().get_ordered_ops()
    ]
    convolutions = [precision for kind, precision in kinds if kind == "Convolution"]
    assert len(convolutions) == len(CONVS) + 1  # with the anchor
    assert set(convolutions) <= {"u8", "i8"}
    assert not [kind for kind, precision in kinds if precision == "f32" and kind not in NO_WORK]


class Harsh(Evaluator):
    """Fails every graph until two layers are restored to float."""

    def max_loss_db(self, flavour: str) -> float:
        """Count the calls."""
        calls = getattr(self, "calls", 0)
        object.__setattr__(self, "calls", calls + 1)
        return -1e9 if calls < 2 else 1e9


def test_sensitive_layers_are_restored_to_float(source: Source, truth: Path, drawn: Path) -> None:
    """One by one, the most sensitive first, until the gate passes; an error if it never does."""
    model = source.graph("fp32", "uint8")
    calibration = calibrate(
        model,
        layers_of(model),
        draw_crops(drawn, Shape(2), count=12),
        flat_patches(3, 1, None),
    )
    evaluator = Harsh.of(source, [truth])
    base_db = evaluator.psnr(session_run(model))
    result = quantize(model, calibration, "cpu", evaluator, base_db)
    ranking = list(result.sensitivity_db)
    assert result.restored_to_float == tuple(ranking[:2])
    assert set(result.layers) == set(ranking[2:])
    inserted = {t.name for t in result.model.graph.initializer if t.name.endswith(".weight.int")}
    assert inserted == {f"{name}.int" for name in result.layers}
    never = dataclasses.replace(evaluator)
    object.__setattr__(never, "calls", -100)
    with pytest.raises(GateError, match=r"fails its gate: .* loses .* dB"):
        quantize(model, calibration, "cpu", never, base_db)


def test_deep_networks_are_measured_in_groups(
    source: Source, truth: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of neighbors, only if the gate fails; a group is restored to float as a whole."""
    monkeypatch.setattr("export.quantization.mixed_precision.MAX_MEASURED", 2)
    monkeypatch.setattr("export.quantization.mixed_precision.GROUPS_OF_DEEP", 2)
    model = source.graph("fp32", "uint8")
    crops = draw_crops(drawn, Shape(2), count=12)
    calibration = calibrate(model, layers_of(model), crops, flat_patches(3, 1, None))
    kind = Evaluator.of(source, [truth])
    base_db = kind.psnr(session_run(model))
    assert not quantize(model, calibration, "cpu", kind, base_db).sensitivity_db
    harsh = Harsh.of(source, [truth])
    object.__setattr__(harsh, "calls", 1)
    result = quantize(model, calibration, "cpu", harsh, base_db)
    assert set(result.sensitivity_db) == {f"{CONVS[0]} .. {CONVS[2]}", f"{CONVS[3]} .. {CONVS[4]}"}
    worst = next(iter(result.sensitivity_db))
    assert result.restored_to_float == tuple(CONVS[:3] if worst.startswith(CONVS[0]) else CONVS[3:])
    assert set(result.layers) == set(CONVS) - set(result.restored_to_float)


def test_equalization_of_a_calibration(graphs: dict[str, onnx.ModelProto], drawn: Path) -> None:
    """Dividing the measured channels equals measuring the equalized network."""
    model = graphs["fp32"]
    crops, layers = draw_crops(drawn, Shape(2), count=12), layers_of(model)
    before = calibrate(model, layers, crops)
    divisors = factors(model, before.peaks)
    divided = before.divided(divisors)
    again = calibrate(equalized(model, divisors), layers, crops)
    for name in CONVS:
        for ours, theirs in zip(
            (divided.lows, divided.highs, divided.means),
            (again.lows, again.highs, again.means),
            strict=True,
        ):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6)


def test_the_gate_in_words() -> None:
    """A color cast, an error on flat patches, a low parity and a loss are each named."""
    bad = Parity(9, 0.5, 29.0, 0.3, 3)
    found = problems(bad, LIMITS["int8"], {"Set5": 0.2}, 0.05)
    assert [text.split(" (")[0] for text in found] == [
        "Set5 loses 0.200 dB",
        "a channel's mean shifts by 0.300 LSB",
        "flat patches differ by 3 LSB",
        "pictures agree to 29.0 dB",
    ]
    assert problems(Parity(9, 0.5, 45.0, 0.1, 2), LIMITS["int8"], {"Set5": 0.04}, 0.05) == []


def test_a_network_without_convolutions(tmp_path: Path, drawn: Path) -> None:
    """With nothing to quantize there is an error instead of a float file called INT8."""
    from export.sources.onnx_file import open_onnx
    from tests import networks

    with pytest.raises(ExportError, match="no convolution that can be quantized"):
        export(
            networks.nearest(tmp_path / "n.onnx"),
            tmp_path / "out",
            Options(targets=("openvino-int8",), data=drawn),
        )
    assert open_onnx(tmp_path / "n.onnx").facts.scale == 2


@pytest.mark.data
def test_shipped_models_pass_the_gate(test_sets: Path, repository: Path, tmp_path: Path) -> None:
    """Two shipped models lose no more on Set5 than the gate allows, in both flavours."""
    data = test_sets.parent / "train"
    if not data.is_dir():
        pytest.skip("needs the training pictures beside the test sets")
    for name in ("gan_x2", "gan_x4"):
        options = Options(precisions=("int8",), data=data, tests=(test_sets / "Set5",))
        report: Report = export(srsdk.models.find(name), tmp_path, options)
        for made in report.made:
            loss = made.manifest.scores["Set5"]["loss_db"]
            assert loss <= MAX_LOSS_DB[made.manifest.flavour][made.manifest.scale]
