"""QAT: training simulates the rounding of the file, and its result is used only if better."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from export.cli import main
from export.errors import ExportError, GateError, UsageError
from export.evaluation.parity import Parity
from export.evaluation.quality import Evaluator
from export.graph.layers import Flavour, conv_layers, quantizable
from export.graph.session import open_session, session_run
from export.options import Options
from export.pipeline import export
from export.quantization import calibration as calibrate_module
from export.quantization import qat, selection
from export.quantization.calibration import Calibration, Shape, calibrate, draw_crops
from export.quantization.mixed_precision import Quantized
from export.quantization.qdq import activation_scale, insert, quantize_weight
from export.quantization.validation_split import validation
from export.sources.checkpoint import open_checkpoint
from export.sources.module import TorchSource
from tests.conftest import make_picture
from training.data.pictures import Batch, DataError, decode
from training.networks import PlainNet

FLAVOURS: tuple[Flavour, ...] = ("cpu", "gpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten synthetic pictures, large enough for patches."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(10):
        Image.fromarray(make_picture(112, 128, seed)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def source(weights: Path) -> TorchSource:
    """The small net with very different weights per input channel, for which INT8 is coarse."""
    opened = open_checkpoint(weights)
    assert isinstance(opened, TorchSource)
    network = opened.network
    assert isinstance(network, PlainNet)
    with torch.no_grad():
        for conv in network.convs[1:-1]:
            assert isinstance(conv.weight, torch.Tensor)
            conv.weight[:, 0] *= 4
            conv.weight[0] /= 4
    return opened


@pytest.fixture(scope="module")
def model(source: TorchSource) -> onnx.ModelProto:
    """Its float32 graph."""
    return source.graph("fp32", "uint8")


@pytest.fixture(scope="module")
def calibration(model: onnx.ModelProto, pictures: Path) -> Calibration:
    """Calibration of that graph, without channel equalization."""
    layers = quantizable(conv_layers(model), "cpu")
    return calibrate(model, layers, draw_crops(pictures, Shape(2), count=12))


def by_runtime(
    x: npt.NDArray[np.float32], step: npt.NDArray[Any], zero: npt.NDArray[Any], axis: int
) -> npt.NDArray[np.float32]:
    """Quantize and dequantize in ONNX Runtime."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"], axis=axis),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["y"], axis=axis),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * x.ndim)
        for name in ("x", "y")
    ]
    constants = [numpy_helper.from_array(v, n) for n, v in (("step", step), ("zero", zero))]
    graph = helper.make_graph(nodes, "pair", ports[:1], ports[1:], constants)
    pair = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    result: npt.NDArray[np.float32] = open_session(pair).run(None, {"x": x})[0]
    return result


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_activations_round_as_in_onnx_runtime(flavour: Flavour) -> None:
    """Values are equal inside and outside the range, and half way between two codes."""
    scale = activation_scale(-0.3, 1.7, flavour)
    step, zero = scale.step, float(scale.zero)
    ties = (np.arange(-200, 300) + 0.5) * step
    x = np.concatenate([np.random.default_rng(0).normal(0, 1.5, 4096), ties]).astype(np.float32)
    least, most = (0, 255) if flavour == "cpu" else (-128, 127)
    got = qat.fake_quantize(
        torch.from_numpy(x), torch.tensor(float(step)), torch.tensor(zero), least, most
    )
    assert np.array_equal(got.numpy(), by_runtime(x, step, scale.zero, 0))


@pytest.mark.parametrize(("flavour", "float_type"), [("cpu", np.float32), ("gpu", np.float16)])
def test_weights_round_as_in_the_file(flavour: Flavour, float_type: Any) -> None:
    """Equal to the stored weights dequantized by ONNX Runtime, also for a channel of zeros."""
    weight = np.random.default_rng(1).normal(0, 0.2, (6, 5, 3, 3)).astype(np.float32)
    weight[3] = 0
    values, scale = quantize_weight(weight, float_type, bounded=flavour == "cpu")
    step = qat.weight_step(torch.from_numpy(weight), flavour, float_type)
    stored = scale.step.astype(np.float32)
    assert np.array_equal(step.numpy().ravel(), stored)
    got = qat.fake_quantize(torch.from_numpy(weight), step, torch.zeros(()), -127, 127).numpy()
    assert np.array_equal(got, values * stored[:, None, None, None])
    assert np.array_equal(got, by_runtime(weight, stored, scale.zero, 0))


def test_the_gradient_passes_straight_through_inside_the_range() -> None:
    """And it is 0 outside."""
    x = torch.tensor([-0.2, 0.0, 0.26, 0.99, 1.2], requires_grad=True)
    y = qat.fake_quantize(x, torch.tensor(1 / 255), torch.tensor(0.0), 0, 255)
    (y * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2, 3, 4, 0]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_student_computes_what_the_file_will(
    source: TorchSource, model: onnx.ModelProto, calibration: Calibration, flavour: Flavour
) -> None:
    """Under 1 % of samples differ from the INT8 graph, by at most 2 levels."""
    assert isinstance(source.network, PlainNet)
    net = qat.student(source.network, model, calibration, flavour)
    run = session_run(insert(model, calibration, flavour))
    for crop in calibration.crops.pixels[:4]:
        x = torch.from_numpy(crop[None]).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            levels = (net(x) * 255).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
        apart = np.abs(levels - run(crop[None]))
        assert apart.max() <= 2
        assert np.mean(apart > 0) < 0.01


def error_of(run: Any, source: TorchSource, calibration: Calibration) -> float:
    """Return the mean squared distance to the float32 network, levels squared."""
    return float(
        np.mean(
            [
                np.mean((run(crop[None]).astype(float) - source.reference(crop[None])) ** 2)
                for crop in calibration.crops.pixels
            ]
        )
    )


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_tuning_reduces_the_int8_error(
    source: TorchSource,
    model: onnx.ModelProto,
    calibration: Calibration,
    pictures: Path,
    flavour: Flavour,
) -> None:
    """A net with badly spread weights gets closer to its teacher, with the same ranges."""
    teacher = TorchSource(dataclasses.replace(source.facts, textured=True), source.network)
    draw = qat.patches(pictures, 2, seed=0).draw
    tuned = qat.tuned(teacher, model, calibration, flavour, draw, 120)
    before, after = (
        error_of(session_run(insert(graph, calibration, flavour)), source, calibration)
        for graph in (model, tuned)
    )
    assert after < 0.9 * before


def test_the_same_seed_tunes_to_the_same_weights(
    source: TorchSource, model: onnx.ModelProto, calibration: Calibration, pictures: Path
) -> None:
    """Bit for bit; another seed gives other weights; the source's weights do not change."""
    kept = copy.deepcopy(source.network.state_dict())
    first, again, other = (
        qat.tuned(source, model, calibration, "cpu", qat.patches(pictures, 2, seed=s).draw, 3)
        for s in (0, 0, 1)
    )
    assert first.SerializeToString() == again.SerializeToString()
    assert first.SerializeToString() not in (other.SerializeToString(), model.SerializeToString())
    assert all(torch.equal(v, kept[n]) for n, v in source.network.state_dict().items())


class OnValidation(Evaluator):
    """Read the PSNR of a graph from its producer name."""

    def psnr(self, run: Any) -> dict[str, float]:
        """Return the PSNR that `graph_of` stored."""
        return {"held out": float(run)}


def graph_of(psnr_db: float, layers: int = 3) -> Quantized:
    """Return an INT8 graph with this PSNR on the validation split and this loss on a test set."""
    losses = MappingProxyType({"Set5": psnr_db})  # the opposite ranking: it must not decide
    parity = Parity(1, 0.1, 50.0, 0.0, 1)
    model = onnx.ModelProto(producer_name=str(psnr_db))
    names = ("x", "y", "z")[:layers]
    return Quantized(model, "cpu", parity, losses, names, (), MappingProxyType({}))


@pytest.mark.parametrize(
    ("before", "after", "used"),
    [
        (graph_of(30.1), graph_of(30.2), True),
        (graph_of(30.2), graph_of(30.1), False),
        (graph_of(30.1), graph_of(30.2, layers=2), False),
        (graph_of(30.1), GateError("no"), False),
        (GateError("no"), graph_of(30.1), True),
    ],
)
def test_tuned_weights_are_used_only_if_better(
    monkeypatch: pytest.MonkeyPatch,
    source: TorchSource,
    calibration: Calibration,
    before: Any,
    after: Any,
    used: bool,
) -> None:
    """Better on the validation split, whatever the test sets show, or alone in passing the gate."""
    results = iter([before, after])

    def quantize(*_: Any) -> Quantized:
        result = next(results)
        if isinstance(result, GateError):
            raise result
        assert isinstance(result, Quantized)
        return result

    monkeypatch.setattr(selection, "quantize", quantize)
    monkeypatch.setattr(selection, "session_run", lambda model: model.producer_name)
    nothing = onnx.ModelProto()
    criteria = selection.Criteria(Evaluator.of(source, []), {}, OnValidation.of(source, []))
    call = partial(selection.quantize_best, nothing, nothing, 7, calibration, "cpu", criteria)
    best = call()
    assert best.losses_db == (after if used else before).losses_db
    values = [None if isinstance(q, GateError) else q.losses_db["Set5"] for q in (before, after)]
    assert best.to_dict()["qat"] == {
        "steps": 7,
        "validation_db_before": values[0],
        "validation_db_after": values[1],
        "used": used,
    }
    results = iter([GateError("the plain one's reason"), GateError("the other's")])
    with pytest.raises(GateError, match="plain"):
        call()


def test_the_validation_split_is_used_for_nothing_else(
    weights: Path, tmp_path: Path, truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither calibration nor QAT reads its pictures."""
    names = [f"picture{index}" for index in range(24)]
    paths = [tmp_path / f"{name}.png" for name in names]
    held = validation(paths)
    ranks = sorted(names, key=lambda n: hashlib.sha256(n.encode()).hexdigest())
    assert sorted(p.stem for p in held) == sorted(ranks[: len(held)])
    assert 0 < len(held) < 8
    assert set(validation(paths[::-1])) == set(held)
    seen: list[set[str]] = []
    draw = calibrate_module.draw_crops

    def watched(*arguments: Any, **options: Any) -> Any:
        crops = draw(*arguments, **options)
        seen.append(set(crops.files))
        return crops

    def looked_at(path: Path, **options: Any) -> Any:
        seen.append({path.name})
        return decode(path, **options)

    monkeypatch.setattr("export.work.draw_crops", watched)
    monkeypatch.setattr(qat, "decode", looked_at)
    for seed, path in enumerate(paths):
        Image.fromarray(make_picture(112, 128, seed)).save(path)
    folder = tmp_path / "out"
    folder.mkdir()
    options = Options(targets=("openvino-int8",), data=tmp_path, tests=(truth,), qat=2)
    export(weights, folder, options)
    files = set().union(*seen)
    assert files == {path.name for path in paths} - {path.name for path in held}


def test_too_few_pictures_for_a_validation_split(
    weights: Path, tmp_path: Path, truth: Path
) -> None:
    """The error comes before any work."""
    for seed in range(9):
        Image.fromarray(make_picture(112, 128, seed)).save(tmp_path / f"{seed}.png")
    options = Options(targets=("openvino-int8",), data=tmp_path, tests=(truth,), qat=2)
    with pytest.raises(UsageError, match="9 pictures, expected 10 or more"):
        export(weights, tmp_path / "x.onnx", options)


def test_the_command(
    weights: Path,
    pictures: Path,
    truth: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--qat` reports its result, and a file with another number of steps is not up to date."""
    call = [str(weights), "-o", str(tmp_path / "x.onnx"), "--target", "openvino-int8"]
    call += ["--data", str(pictures), "--test", str(truth), "--no-comparison", "--json"]
    assert main([*call, "--qat", "2"]) == 0
    reported = json.loads(capsys.readouterr().out)["int8"]["cpu"]["qat"]
    assert reported["steps"] == 2
    assert set(reported) == {"steps", "validation_db_before", "validation_db_after", "used"}
    assert main([*call, "--qat", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["up_to_date"]
    assert main([*call, "--qat", "3"]) == 1
    assert "--force" in capsys.readouterr().err


def test_wrong_calls(
    weights: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--qat` without INT8, --data or --test, or below 0, is a usage error in two lines."""
    data, test = ["--data", str(pictures)], ["--test", str(pictures)]
    int8 = ["--precision", "int8"]
    for arguments, message in (
        (["--qat", "5", *data, *test], "--precision int8"),
        (["--qat", "5", *int8, *test], "with --data"),
        (["--qat", "5", *int8, *data], "with --test"),
        (["--qat", "-1", *int8, *data, *test], "expected a number of steps"),
    ):
        assert main([str(weights), "-o", str(tmp_path), *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 2
        assert message in error
    assert list(tmp_path.iterdir()) == []


def test_other_sources_are_refused(source: TorchSource, tmp_path: Path, pictures: Path) -> None:
    """ONNX files, which have no network to train, and networks with attention are rejected."""
    from tests import networks

    asked = Options(precisions=("int8",), data=pictures, tests=(pictures,), qat=5)
    with pytest.raises(UsageError, match="leave --qat out"):
        export(networks.nearest(tmp_path / "n.onnx"), tmp_path, asked)
    facts = dataclasses.replace(source.facts, architecture="PlainNet with attention")
    attentive = TorchSource(facts, PlainNet(2, 8, 4, attention="se"))
    with pytest.raises(UsageError, match="PlainNet with attention"):
        qat.check_offered(attentive)


def test_pictures_that_no_patch_fits_into(drawn: Path) -> None:
    """The error states the size that is needed."""
    with pytest.raises(DataError, match=r"none of 10 pictures is usable .* under 192 px"):
        qat.patches(drawn, 4, seed=0)


def test_a_nan_loss_ends_the_training() -> None:
    """It raises an error instead of writing a file of NaN."""
    net = torch.nn.Conv2d(3, 3, 1)
    torch.nn.init.constant_(net.weight, float("nan"))
    batch = Batch(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))
    with pytest.raises(ExportError, match="loss is nan at step 0"):
        qat.train(net, net, lambda: batch, 1, 0.5)
