"""Export sources: third-party weights, ONNX files and damaged checkpoints."""

from __future__ import annotations

import importlib.util
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn

import srsdk
from export.cli import main
from export.errors import ExportError
from export.graph.session import session_run
from export.options import Options
from export.pipeline import export
from export.sources.module import torch_source
from export.sources.onnx_file import open_onnx, read_onnx
from export.sources.select import open_source
from export.sources.spandrel_weights import SpandrelNetwork, import_spandrel
from srsdk.adoption.tiles.influence import measured_radius
from srsdk.manifest import read_manifest
from tests import networks
from tests.conftest import make_picture
from tests.export.nets import rrdb_state
from training import checkpoint

needs_spandrel = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="needs spandrel: 'srsdk[foreign]'"
)


def compact_state() -> dict[str, Tensor]:
    """Return random weights of SRVGGNetCompact x2, 8 channels, under its parameter names."""
    torch.manual_seed(0)
    widths = [(8, 3), (8, 8), (8, 8), (8, 8), (12, 8)]
    state: dict[str, Tensor] = {}
    for index, (out, into) in enumerate(widths):
        state[f"body.{2 * index}.weight"] = torch.randn(out, into, 3, 3) * 0.08
        state[f"body.{2 * index}.bias"] = torch.randn(out) * 0.02
        if index < len(widths) - 1:
            state[f"body.{2 * index + 1}.weight"] = torch.full((out,), 0.2)
    return state


@needs_spandrel
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_foreign_weights(tmp_path: Path, drawn: Path, suffix: str) -> None:
    """Architecture and scale are detected; every precision is exported and upscales a picture."""
    path = tmp_path / f"compact{suffix}"
    if suffix == ".pth":
        torch.save({"params": compact_state()}, path)
    else:
        save_file(compact_state(), path)
    source = open_source(path)
    assert source.facts.architecture == "RealESRGAN Compact"
    assert (source.facts.scale, source.facts.channels) == (2, 3)
    assert (source.facts.family, source.facts.radius_px) == ("foreign", 5)
    if suffix == ".safetensors":
        return
    options = Options(precisions=("fp32", "fp16", "int8"), data=drawn)
    report = export(path, tmp_path, options)
    assert [made.artifact.path.name for made in report.made] == [
        "compact.onnx",
        "compact.fp16.onnx",
        "compact.int8.onnx",
        "compact.int8.gpu.onnx",
    ]
    picture = make_picture(30, 41)
    with srsdk.Upscaler(tmp_path / "compact.onnx") as up:
        wanted = up(picture).astype(int)
    for name, worst in (("compact.fp16.onnx", 2), ("compact.int8.onnx", 30)):
        with srsdk.Upscaler(tmp_path / name) as up:
            assert np.abs(up(picture) - wanted).max() <= worst


class Malice:
    """Run code when unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (os.system, ("touch pwned",))


@needs_spandrel
def test_bad_foreign_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code is not run, damaged files and unknown networks give one-line errors, and no file."""
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(tmp_path)
    torch.save(compact_state(), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:700])
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"a": Malice()}, protocol=2))
    (tmp_path / "text.pth").write_text("hello")
    torch.save({"a.weight": torch.zeros(3, 5)}, tmp_path / "unknown.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, message in (
        ("cut.pth", "damaged"),
        ("evil.pth", "holds more than weights"),
        ("text.pth", "damaged"),
        ("unknown.pth", "knows no architecture with these weights (1 tensors)"),
        ("list.pth", "expected a dict of weights"),
        ("none.pth", "no such file"),
    ):
        assert main([str(tmp_path / name), "-o", str(out)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert name in error
        assert message in error
    assert not (tmp_path / "pwned").exists()
    assert list(out.iterdir()) == []


def convolution(path: Path, *, opset: int = 20, kernel: int = 5) -> Path:
    """Save an x2 network of one convolution, float32 NCHW, as third-party exporters write it."""
    weight = np.zeros((12, 3, kernel, kernel), np.float32)
    for channel in range(12):
        weight[channel, channel // 4] = 1 / kernel**2
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["x"], pads=[kernel // 2] * 4),
        helper.make_node("DepthToSpace", ["x"], ["upscaled"], blocksize=2, mode="CRD"),
    ]
    networks.save(
        path,
        nodes,
        dtype=TensorProto.FLOAT,
        input_shape=["n", 3, "h", "w"],
        output_shape=["n", 3, "H", "W"],
        weights={"w": weight},
    )
    model = onnx.load(path)
    model.opset_import[0].version = opset
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("opset", [13, 20])
def test_a_float_onnx_becomes_uint8_nhwc(tmp_path: Path, opset: int) -> None:
    """Both precisions give the same picture as the float file in the runtime."""
    path = convolution(tmp_path / "blur.onnx", opset=opset)
    report = export(path, tmp_path / "out", Options(precisions=("fp32", "fp16")))
    picture = make_picture(20, 31)
    with srsdk.Upscaler(path) as up:
        wanted = up(picture).astype(int)
    for made in report.made:
        with srsdk.Upscaler(made.artifact.path) as up:
            assert (up.manifest.dtype, up.manifest.layout) == ("uint8", "NHWC")
            assert (up.manifest.radius_px, up.manifest.radius_measured) == (4, True)
            assert np.abs(up(picture) - wanted).max() <= 1


def test_fixed_sizes_luma_and_nhwc(tmp_path: Path) -> None:
    """Size, channels and layout of the source file are kept."""
    for name, options, size, channels in (
        ("fixed", {"size": (24, 32)}, (24, 32), 3),
        ("luma", {"channels": 1}, None, 1),
        ("last", {"channels_last": True}, None, 3),
    ):
        path = networks.nearest(tmp_path / f"{name}.onnx", **options)
        export(path, tmp_path / f"{name}.out.onnx", Options())
        manifest = read_manifest(tmp_path / f"{name}.out.onnx")
        assert manifest is not None
        assert (manifest.size_px, manifest.channels, manifest.scale) == (size, channels, 2)
        picture = make_picture(40, 50)
        with srsdk.Upscaler(tmp_path / f"{name}.out.onnx") as up, srsdk.Upscaler(path) as plain:
            assert np.abs(up(picture).astype(int) - plain(picture)).max() <= 1


def test_our_own_files_are_sources_too(weights: Path, tmp_path: Path) -> None:
    """An exported uint8 file can be exported in other precisions without its checkpoint."""
    export(weights, tmp_path / "toy.onnx", Options())
    report = export(tmp_path / "toy.onnx", tmp_path / "again", Options(precisions=("fp16",)))
    (made,) = report.made
    assert made.manifest.name == "toy_x2"
    assert made.manifest.radius_px == 5
    assert made.parity is not None
    assert made.parity.max_lsb <= 1


def test_bad_onnx_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Damaged files, other networks and other uint8 boundaries give a one-line error, no file."""
    out = tmp_path / "out"
    out.mkdir()
    good = convolution(tmp_path / "good.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "empty.onnx").write_bytes(b"")
    networks.classifier(tmp_path / "classifier.onnx")
    networks.identity(tmp_path / "pixels.onnx")
    for name, message in (
        ("cut.onnx", "is truncated"),
        ("text.onnx", "is not an ONNX model"),
        ("empty.onnx", "is empty (0 bytes)"),
        ("classifier.onnx", "is not an image network"),
        ("pixels.onnx", "uint8 boundary"),
        ("none.onnx", "no such model file"),
    ):
        assert main([str(tmp_path / name), "-o", str(out)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert name in error
        assert message in error
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../secret.bin", "outside the model's folder"),
        ("/etc/hostname", "outside the model's folder"),
        ("missing.bin", "does not exist"),
    ],
)
def test_external_data_stays_in_the_folder(tmp_path: Path, location: str, message: str) -> None:
    """Weights outside the model's folder are never read."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    model = onnx.load(convolution(folder / "m.onnx"))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value=location))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=message):
        read_onnx(folder / "m.onnx")
    assert main([str(folder / "m.onnx"), "-o", str(tmp_path / "out.onnx")]) == 1
    assert not (tmp_path / "out.onnx").exists()


def test_external_data_beside_the_file(tmp_path: Path) -> None:
    """External data beside the file are read."""
    model = onnx.load(convolution(tmp_path / "m.onnx"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    source = open_onnx(tmp_path / "m.onnx")
    assert session_run(source.graph("fp32", "uint8"))(make_picture(9, 9)[None]).shape == (
        1,
        18,
        18,
        3,
    )


class Fading(nn.Module):
    """Add a share of the picture's mean: global context of adjustable strength."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge twice."""
        y = x + self.share * (x.mean(dim=(2, 3), keepdim=True) - 0.5)
        return y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def test_global_context_is_measured(tmp_path: Path) -> None:
    """Weak global context gives a measured radius; strong global context is called bounded."""
    source = torch_source(Fading(0.004), name="f", family="foreign", scale=2, sha256="")
    assert source.facts.radius_measured
    assert source.facts.radius_px == 4
    assert source.facts.tiling == "exact"
    source = torch_source(Fading(0.5), name="f", family="foreign", scale=2, sha256="")
    assert (source.facts.tiling, source.facts.multiple_px) == ("bounded", 1)


def test_a_measured_radius_is_that_of_the_structure(tmp_path: Path) -> None:
    """The measured radius of a 9x9 box filter is 4 pixels, of a 21x21 box filter 10."""
    for kernel, radius in ((9, 4), (21, 10)):
        run = session_run(
            open_onnx(convolution(tmp_path / "b.onnx", kernel=kernel)).graph("fp32", "uint8")
        )
        assert measured_radius(run, 2, 3) == radius


def test_float_boundary(weights: Path, tmp_path: Path) -> None:
    """Files with float32 boundary give the same 8-bit picture as with uint8."""
    options = Options(precisions=("fp32", "fp16"), boundary="float32")
    report = export(weights, tmp_path, options)
    assert [made.artifact.path.name for made in report.made] == [
        "toy_x2.float32.onnx",
        "toy_x2.fp16.float32.onnx",
    ]
    export(weights, tmp_path / "uint8.onnx", Options())
    picture = make_picture(21, 34)
    with srsdk.Upscaler(tmp_path / "uint8.onnx") as up:
        wanted = up(picture).astype(int)
    for made in report.made:
        with srsdk.Upscaler(made.artifact.path) as up:
            assert up.manifest.dtype == "float32"
            assert np.abs(up(picture) - wanted).max() <= 2


def test_halves_are_halves(weights: Path) -> None:
    """In the fp16 graph the weights of all layers are float16, the anchor stays float32."""
    model = open_source(weights).graph("fp16", "uint8")
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    assert kinds["network.anchor"] == TensorProto.FLOAT
    for index in range(5):
        assert kinds[f"network.convs.{index}.weight"] == TensorProto.FLOAT16
    (weight,) = [t for t in model.graph.initializer if t.name == "network.convs.1.weight"]
    assert numpy_helper.to_array(weight).dtype == np.float16


@needs_spandrel
@pytest.mark.slow
@pytest.mark.data
def test_realesr_animevideo(test_sets: Path, tmp_path: Path) -> None:
    """A popular network exports to every target and upscales a picture."""
    path = test_sets.parents[1] / "peers" / "realesr-animevideov3-x4.pth"
    data = test_sets.parent / "train"
    if not path.is_file() or not data.is_dir():
        pytest.skip("needs the peers' weights and the training pictures beside the test sets")
    targets = ("onnx", "rtx") if importlib.util.find_spec("tensorrt_rtx") else ("onnx",)
    options = Options(precisions=("fp32", "fp16", "int8"), targets=targets, data=data)
    report = export(path, tmp_path, options)
    assert len(report.made) == 4 + 3 * (len(targets) - 1)
    drawing = make_picture(64, 64)
    with srsdk.Upscaler(tmp_path / f"{path.stem}.int8.onnx") as up:
        assert up(drawing).shape == (256, 256, 3)


def tiny(name: str) -> nn.Module:
    """Return a small network of a popular architecture, with random weights."""
    from spandrel.architectures.SAFMN import SAFMN
    from spandrel.architectures.SPAN import SPAN
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(0)
    made: nn.Module = {
        "SPAN": lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2),
        "SAFMN": lambda: SAFMN(dim=8, n_blocks=1, upscaling_factor=2),
        "SwinIR": lambda: SwinIR(
            img_size=64, embed_dim=8, depths=[1], num_heads=[2], upscale=2, upsampler="pixelshuffle"
        ),
    }[name]()
    return made


@needs_spandrel
@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize(
    ("name", "scale", "multiple_px"), [("SPAN", 2, 1), ("SAFMN", 2, 8), ("SwinIR", 2, 16)]
)
def test_architectures_are_detected(
    tmp_path: Path, name: str, scale: int, multiple_px: int
) -> None:
    """Scale and size multiple are detected; a minimum size becomes a multiple of that size."""
    import_spandrel()
    torch.save(tiny(name).state_dict(), tmp_path / "w.pth")
    facts = open_source(tmp_path / "w.pth").facts
    assert (facts.architecture, facts.scale) == (name, scale)
    assert facts.multiple_px == multiple_px


@needs_spandrel
@pytest.mark.parametrize("name", ["SPAN", "SAFMN"])
def test_architectures_go_through(tmp_path: Path, name: str) -> None:
    """SPAN writes weights in its forward pass, SAFMN reads its input's shape; both export."""
    import_spandrel()
    torch.save(tiny(name).state_dict(), tmp_path / "w.pth")
    (tmp_path / "out").mkdir()
    export(tmp_path / "w.pth", tmp_path / "out", Options())
    with srsdk.Upscaler(tmp_path / "out" / "w.onnx", health=False) as up:  # random weights
        assert up(make_picture(37, 53)).shape == (74, 106, 3)


@needs_spandrel
def test_esrgan(tmp_path: Path) -> None:
    """A one-block ESRGAN is detected as x4, and its LeakyReLUs are single nodes in the graph."""
    torch.save({"params_ema": rrdb_state(blocks=1, width=16)}, tmp_path / "w.pth")
    report = export(tmp_path / "w.pth", tmp_path / "out.onnx", Options())
    manifest = report.made[0].manifest
    assert (manifest.scale, manifest.family) == (4, "foreign")
    kinds = [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node]
    assert kinds.count("LeakyRelu") == 15
    picture = make_picture(20, 30)
    with srsdk.Upscaler(tmp_path / "out.onnx") as up:
        large = up(picture)
    assert np.abs(large[2::4, 2::4].astype(int) - picture).mean() < 12  # still the picture


class Halver(nn.Module):
    """A network that spandrel calls with a factor."""

    def forward(self, x: Tensor) -> Tensor:
        """Halve."""
        return x / 2


def test_a_network_is_called_as_spandrel_calls_it() -> None:
    """The descriptor's call function is used: some networks return a tuple or another range."""
    descriptor = SimpleNamespace(
        model=Halver(),
        architecture=SimpleNamespace(id="Halver"),
        _call_fn=lambda model, x: model(x) * 2 + 0.25,
    )
    assert SpandrelNetwork(descriptor)(torch.ones(1, 3, 2, 2)).unique().tolist() == [1.25]


def test_weights_that_are_no_numbers(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """NaN in checkpoints and ONNX files is rejected, because no gate would detect it."""
    tensors, facts = checkpoint.load(weights)
    tensors["convs.1.bias"][0] = float("nan")
    checkpoint.save(tmp_path / "w.safetensors", tensors, facts)
    model = onnx.load(convolution(tmp_path / "w.onnx"))
    broken = np.full((12, 3, 5, 5), np.nan, np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(broken, "w"))
    onnx.save(model, tmp_path / "w.onnx")
    for name in ("w.safetensors", "w.onnx"):
        assert main([str(tmp_path / name), "-o", str(tmp_path / "out.onnx")]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "hold NaN or infinity" in error
    assert not (tmp_path / "out.onnx").exists()


def test_bad_checkpoints_of_ours(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Truncated, incomplete, mismatched and other files give a one-line error and no file."""
    out = tmp_path / "out"
    out.mkdir()
    whole = weights.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    tensors, facts = checkpoint.load(weights)
    lacking = {name: value for name, value in tensors.items() if name != "convs.1.bias"}
    checkpoint.save(tmp_path / "lacking.safetensors", lacking, facts)
    other = {**tensors, "convs.1.weight": torch.zeros(8, 4, 3, 3)}
    checkpoint.save(tmp_path / "other.safetensors", other, facts)
    for name in ("cut", "text", "empty", "lacking", "other", "none"):
        assert main([str(tmp_path / f"{name}.safetensors"), "-o", str(out)]) == 1, name
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert error.startswith("export: "), error
    assert list(out.iterdir()) == []


def test_external_data_of_an_attribute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tensor inside a node is not read from outside the folder either; no file is written."""
    folder, out = tmp_path / "model", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    model = onnx.load(convolution(folder / "m.onnx"))
    tensor = onnx.TensorProto()
    tensor.CopyFrom(model.graph.initializer[0])
    del model.graph.initializer[:]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="../secret.bin"))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    assert main([str(folder / "m.onnx"), "-o", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "secret.bin" in error
    assert list(out.iterdir()) == []
