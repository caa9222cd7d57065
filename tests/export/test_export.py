"""Export: files compute what their network computes, carry a manifest, and fail atomically."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import srsdk
from export.arguments import make_parser
from export.cli import main
from export.errors import ExportError, GateError
from export.evaluation.parity import (
    LIMITS,
    Parity,
    by_reference,
    check,
    drawn_pictures,
    flat_patches,
    measure,
)
from export.graph.onnx_file import build_onnx
from export.graph.session import session_run
from export.graph.wrapper import Uint8Graph, receptive_radius
from export.options import Options, plan
from export.pipeline import export
from export.sources.module import torch_source
from export.targets.atomic_output import Staging
from tests.conftest import make_picture
from tests.export.conftest import RECIPE
from training import checkpoint, networks
from training.evaluation.evaluate import network
from training.recipe.schema import NetworkRecipe, recipe_from_dict


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint, exported and scored on synthetic pictures."""
    folder = tmp_path_factory.mktemp("out")
    tests = folder / "drawn"
    tests.mkdir()
    Image.fromarray(make_picture(40, 60)).save(tests / "a.png")
    path = folder / "toy_x2.onnx"
    options = Options(
        tests=(tests,),
        licence="CC0",
        training_data="drawn pictures",
        training_licenses=("MIT", "CC0-1.0", "MIT"),
    )
    export(weights, path, options)
    return path


def test_the_file_computes_what_the_network_computes(exported: Path, weights: Path) -> None:
    """In srsdk, with both backends, at sizes other than the export's example."""
    net = networks.build(RECIPE.network, 2)
    networks.warm_start(net, checkpoint.load(weights)[0])
    for backend in ("openvino", "onnxruntime"):
        with srsdk.Upscaler(exported, backend=backend) as up:
            for size in ((1, 1), (7, 90), (53, 31)):
                picture = make_picture(*size)
                expected = network(net.eval())(picture)
                assert np.abs(up(picture).astype(int) - expected).max() <= 1


def test_the_manifest_is_filled(exported: Path) -> None:
    """Every field is set, with the scores and texts of the options."""
    with srsdk.Upscaler(exported) as up:
        manifest = up.manifest
    assert (manifest.name, manifest.family, manifest.scale) == ("toy_x2", "gan", 2)
    assert (manifest.channels, manifest.dtype, manifest.layout) == (3, "uint8", "NHWC")
    assert manifest.radius_px == 5
    assert manifest.precision == "fp32"
    assert manifest.scores["drawn"]["psnr_y_db"] > 15
    assert (manifest.licence, manifest.training_data) == ("CC0", "drawn pictures")
    assert manifest.training_licenses == ("CC0-1.0", "MIT")
    assert len(manifest.weights_sha256) == 64
    assert set(manifest.built_with) == {"srsdk", "torch", "onnx"}


def test_the_file_is_clean(exported: Path, repository: Path) -> None:
    """It is uint8 NHWC with dynamic sizes, and holds no path or code of the export machine."""
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
    """Each 3x3 convolution adds one pixel to the radius, whatever its weights."""
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
    """No tile overlap reproduces the whole picture, so such a network is rejected."""
    with pytest.raises(ValueError, match="global context"):
        receptive_radius(SeesEverything(), 2)


class FixedSize(nn.Module):
    """Has a fixed output size."""

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge twice, at the size of the trace."""
        return nn.functional.interpolate(x, size=(104, 136))


def test_a_fixed_output_size_is_rejected() -> None:
    """The exporter accepts it silently; the check of the dimensions finds it."""
    with pytest.raises(ExportError, match="expected"):
        build_onnx(Uint8Graph(FixedSize()), 2)


def test_the_gate_refuses_a_file_that_computes_something_else() -> None:
    """A small change of one tensor fails the gate."""
    torch.manual_seed(0)
    net = networks.build(NetworkRecipe(width=4, depth=1), 2)
    source = torch_source(net, name="toy", family="gan", scale=2, sha256="")
    run = session_run(source.graph("fp32", "uint8"))

    def parity() -> Parity:
        pictures, patches = drawn_pictures(3, 1, None), flat_patches(3, 1, None)
        wanted = (by_reference(source.reference, batches) for batches in (pictures, patches))
        return measure(run, *wanted)

    check(parity(), "fp32", "the file")
    with torch.no_grad():
        next(net.parameters()).add_(0.02)
    with pytest.raises(GateError, match=r"the file .* differ by up to \d+ LSB \(allowed: 1\)"):
        check(parity(), "fp32", "the file")


def test_nothing_is_written_when_the_gate_fails(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A failed gate gives exit code 3, a one-line error and an empty folder."""
    impossible = dataclasses.replace(LIMITS["fp32"], max_lsb=-1)
    monkeypatch.setattr("export.evaluation.parity.LIMITS", {"fp32": impossible})
    assert main([str(weights), "-o", str(tmp_path / "a.onnx")]) == 3
    assert capsys.readouterr().err.startswith("export: parity: a.onnx and the float32 network ")
    assert list(tmp_path.iterdir()) == []


def test_command_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It reports new files, keeps those up to date, and replaces others only with `--force`."""
    call = [str(weights), "-o", str(tmp_path / "a.onnx")]
    assert main(call) == 0
    assert "receptive-field radius 5 px" in capsys.readouterr().out
    before = (tmp_path / "a.onnx").stat().st_mtime_ns
    assert main(call) == 0
    assert "up to date" in capsys.readouterr().out
    assert (tmp_path / "a.onnx").stat().st_mtime_ns == before
    assert main([*call, "--license", "CC0"]) == 1
    assert "--force replaces it" in capsys.readouterr().err
    assert main([*call, "--license", "CC0", "--force"]) == 0
    assert (tmp_path / "a.onnx").stat().st_mtime_ns != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "b.engine"], 2, "ends in .onnx"),
        (["-o", ".", "--precision", "int4"], 2, "'int4' is not one of fp32, fp16, int8"),
        (["-o", ".", "--target", "coreml"], 2, "'coreml' is not one of onnx, openvino-int8, rtx"),
        (["-o", ".", "--boundary", "uint16"], 2, "'uint16' is not one of uint8, float32"),
        (["-o", ".", "--precision", "int8"], 2, "--data"),
        (["-o", ".", "--target", "rtx,tensorrt"], 2, "two folders"),
        (["-o", ".", "--sm", "ampere"], 2, "86,89,120"),
        (["-o", ".", "--profiles", "256"], 2, "BATCHxHEIGHTxWIDTH"),
        (["-o", ".", "--profiles", "1x8x8", "--batch", "2"], 2, "cannot be combined"),
        (["-o", ".", "--profiles", "0x8x8"], 2, "above 0"),
    ],
)
def test_wrong_calls(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    """Each gives an error that lists valid values, and a line of usage; nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert main([str(weights), *arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("python -m export: ")
    assert error.count("\n") == 2
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_a_missing_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error states that there is no such file."""
    assert main([str(tmp_path / "none"), "-o", str(tmp_path / "b.onnx")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_names(weights: Path, tmp_path: Path) -> None:
    """A folder, which need not exist, uses the model's name; a file name is for one file."""
    both = Options(precisions=("fp32", "fp16"), targets=("onnx",))
    everything = Options(
        precisions=("fp32", "fp16", "int8"), targets=("rtx", "onnx"), data=tmp_path
    )
    wide = Options(precisions=("fp16",), boundary="float32")

    def names(output: Path | str, options: Options) -> list[str]:
        return [artifact.path.name for artifact in plan(output, "m", options)]

    assert names(tmp_path, both) == ["m.onnx", "m.fp16.onnx"]
    assert names(tmp_path / "b", both) == ["m.onnx", "m.fp16.onnx"]
    assert names(f"{tmp_path}/v2.1/", both) == ["m.onnx", "m.fp16.onnx"]
    assert names(tmp_path / "b.onnx", both) == ["b.onnx", "b.fp16.onnx"]
    assert names(tmp_path / "b.onnx", Options(precisions=("fp16",))) == ["b.onnx"]
    assert names(tmp_path, wide) == ["m.fp16.float32.onnx"]
    assert names(tmp_path, Options(targets=("openvino-int8",), data=tmp_path)) == ["m.int8.onnx"]
    assert names(tmp_path, everything) == [
        "m.onnx",
        "m.fp16.onnx",
        "m.int8.onnx",
        "m.int8.gpu.onnx",
        "m.fp32.engine",
        "m.fp16.engine",
        "m.int8.engine",
    ]


def test_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    """An interrupt between two files publishes neither and keeps existing files."""
    (tmp_path / "a.onnx").write_text("old")

    def interrupted() -> None:
        with Staging() as staging:
            staging.path(tmp_path / "a.onnx").write_text("new")
            staging.path(tmp_path / "b.onnx").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
    assert (tmp_path / "a.onnx").read_text() == "old"


def test_the_json_report(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON report holds everything that the table shows."""
    assert main([str(weights), "-o", str(tmp_path), "--precision", "fp32,fp16", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [Path(file["file"]).name for file in report["files"]] == [
        "toy_x2.onnx",
        "toy_x2.fp16.onnx",
    ]
    for file in report["files"]:
        assert file["bytes"] == Path(file["file"]).stat().st_size
        assert file["parity"]["max_lsb"] <= 2
        assert file["manifest"]["build_key"]
    assert main([str(weights), "-o", str(tmp_path), "--precision", "fp32,fp16", "--json"]) == 0
    assert all(file["up_to_date"] for file in json.loads(capsys.readouterr().out)["files"])


def test_the_workflow_example_calls_what_there_is(repository: Path) -> None:
    """Every option and module in `export/ci.yml` exists."""
    text = (repository / "export" / "ci.yml").read_text(encoding="utf-8")
    command = text[text.index("python -m export") :].partition(">")[0]
    known = make_parser().format_help()
    options = re.findall(r"--[a-z]+[a-z-]*", command)
    assert len(options) >= 8
    assert all(option in known for option in options)
    for module in set(re.findall(r"python -m ([a-z.]+)", text)):
        assert importlib.util.find_spec(module) is not None


def test_a_reparametrized_net_is_exported_merged(tmp_path: Path) -> None:
    """The file has as many convolutions as a plain net, and computes the same."""
    table = RECIPE.to_dict() | {"network": {"width": 8, "depth": 3, "reparam": True}}
    recipe = recipe_from_dict(table, source="test")
    torch.manual_seed(1)
    net = networks.build(recipe.network, 2).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    checkpoint.save(tmp_path / "w.safetensors", net.state_dict(), {"recipe": table})
    export(tmp_path / "w.safetensors", tmp_path / "toy.onnx", Options())
    nodes = [node.op_type for node in onnx.load(tmp_path / "toy.onnx").graph.node]
    assert nodes.count("Conv") == 6  # head, 3, tail, anchor
    picture = make_picture(20, 31)
    with srsdk.Upscaler(tmp_path / "toy.onnx", backend="onnxruntime") as up:
        assert np.abs(up(picture).astype(int) - network(net)(picture)).max() <= 1


class Branching(nn.Module):
    """Branches on a value of its input, which cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge twice, or not."""
        y = x if bool(x.mean() > 0) else -x
        return y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def test_a_network_that_torch_cannot_export() -> None:
    """The error is one line that names the line of code, without torch's color codes."""
    branch = r"^the network branches on values of the picture \(test_export\.py:\d+ in forward: "
    with pytest.raises(ExportError, match=branch) as error:
        build_onnx(Uint8Graph(Branching()), 2)
    assert "\x1b" not in str(error.value)
    assert "\n" not in str(error.value)


def test_ctrl_c_inside_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter wraps an interrupt into its own error; it is raised as an interrupt."""

    def interrupted(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise torch.onnx.errors.OnnxExporterError("failed") from error

    monkeypatch.setattr("torch.onnx.export", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_onnx(Uint8Graph(Branching()), 2)
