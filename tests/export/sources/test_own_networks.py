"""Networks of one's own: modules, files with code, TorchScript and torch.export archives."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import export
import srsdk
from export.cli import main
from export.errors import ExportError, UsageError
from export.graph.attempts import Way, choose
from export.graph.dry_run import check_branches, operators
from export.graph.onnx_file import build_traced
from export.graph.torch_errors import BranchError
from export.graph.traceable import traceable
from export.graph.wrapper import Uint8Graph
from export.sources.select import open_source
from export.sources.user_file import load, parse_arguments
from srsdk.manifest import read_manifest
from tests.conftest import make_picture

CODE = """
import torch
from torch import nn


class Doubling(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.last = nn.Conv2d(width, 12, 3, padding=1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        y = self.last(self.dropout(torch.relu(self.first(x))))
        y = nn.functional.pixel_shuffle(y, 2)
        return nn.functional.interpolate(x, scale_factor=2.0) + 0.3 * y


def factory(width):
    return Doubling(width)


class Broken(nn.Module):
    def __init__(self):
        raise RuntimeError("no such luck")
"""


class Doubling(nn.Module):
    """Enlarge twice by repeating pixels, with a small convolution on top, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 12, 3, padding=1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 3, 2 H, 2 W)."""
        detail = nn.functional.pixel_shuffle(self.body(self.dropout(x)), 2)
        repeated: Tensor = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return 0.8 * repeated + 0.1 * detail


class Several(Doubling):
    """Return other results before the picture."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        """Return features, a half-size picture and the picture."""
        picture = super().forward(x)
        parts = {"mean": picture.mean(), "features": self.body(x), "picture": picture}
        return parts if self.kind is dict else self.kind(parts.values())


class Multiples(Doubling):
    """Fail unless sizes are multiples of 4, as U-Nets do."""

    def forward(self, x: Tensor) -> Tensor:
        """Add a copy that was reduced and enlarged again."""
        small = nn.functional.avg_pool2d(x, 4)
        again = small.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
        return super().forward(0.5 * x + 0.5 * again)


class Classifier(nn.Module):
    """No image-to-image map."""

    def forward(self, x: Tensor) -> Tensor:
        """Return one number for each channel."""
        return x.mean(dim=(2, 3))


class Branching(Doubling):
    """Branch on a value of the picture."""

    def forward(self, x: Tensor) -> Tensor:
        """Invert bright pictures."""
        y = super().forward(x)
        if x.mean() > 0.5:
            y = 1 - y
        return y


class Rooted(Doubling):
    """Return NaN for some pictures."""

    def forward(self, x: Tensor) -> Tensor:
        """Take the root of negative numbers."""
        return super().forward(torch.sqrt(self.dropout(x - 0.5)))


class Integers(Doubling):
    """Return levels instead of floats."""

    def forward(self, x: Tensor) -> Tensor:
        """Return uint8."""
        return (super().forward(x) * 255).to(torch.uint8)


def expected(network: nn.Module, picture: Any) -> Any:
    """Return the network's own result for (H, W, 3) uint8."""
    with torch.no_grad():
        return Uint8Graph(network.eval())(torch.from_numpy(picture[None])).numpy()[0].astype(int)


def check_file(path: Path, network: nn.Module) -> None:
    """Compare a file with its network at a size that was not exported."""
    picture = make_picture(28, 44)
    with srsdk.Upscaler(path, backend="onnxruntime", health=False) as up:
        assert np.abs(up(picture) - expected(network, picture)).max() <= 1


def test_a_module_in_training_mode(tmp_path: Path) -> None:
    """Scale, channels and name are found; the file has no dropout; the module stays as it was."""
    network = Doubling().train()
    report = export.export(network, tmp_path / "out")
    assert network.training
    assert isinstance(report, export.Report)
    manifest = report.made[0].manifest
    assert (manifest.name, manifest.scale, manifest.channels) == ("doubling", 2, 3)
    assert (manifest.multiple_px, manifest.size_px, manifest.radius_px) == (1, None, 1)
    assert report.notes == ()
    check_file(tmp_path / "out" / "doubling.onnx", network)


@pytest.mark.parametrize("kind", [tuple, list, dict])
def test_the_first_picture_among_several_results(tmp_path: Path, kind: type) -> None:
    """It is taken, and the report says so."""
    network = Several(kind)
    report = export.export(network, tmp_path / "several.onnx", scale=2)
    key = "'picture'" if kind is dict else "2"
    assert report.notes[0].endswith(f"the picture is {key}")
    check_file(tmp_path / "several.onnx", Doubling())


def test_a_multiple_is_probed(tmp_path: Path) -> None:
    """Sizes that fail are found out, and the manifest says which work."""
    report = export.export(Multiples(), tmp_path / "m.onnx", example=torch.rand(1, 3, 64, 96))
    assert report.made[0].manifest.multiple_px == 4
    assert report.notes == ("input sizes are multiples of 4 (probed)",)
    check_file(tmp_path / "m.onnx", Multiples())


def weights_of_nan() -> nn.Module:
    """Return a network with one weight that is NaN."""
    network = Doubling()
    with torch.no_grad():
        network.body.weight[0, 0, 0, 0] = float("nan")
    return network


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (Classifier(), {}, r"classifier maps \(1, 3, 64, 128\) to \(1, 3\), which is no picture"),
        (Branching(), {}, r"branches on values of the picture \(test_own_networks.py:\d+ in fo"),
        (weights_of_nan(), {}, "weights 'body.weight' hold NaN"),
        (Rooted(), {}, r"returns NaN .*first in layer 'dropout'|first in layer 'body'"),
        (Integers(), {}, r"returns torch.uint8, expected floats 0..1"),
        (Doubling(), {"scale": 4}, "that is x2, not x4"),
        (Multiples(), {"multiple": 3}, "with multiple=3: "),
        (Several(dict), {"result": "none"}, "has no output 'none'; it returns 'mean'"),
        (Several(dict), {"result": "features"}, "which is no picture of it"),
        (Doubling(), {"example": torch.rand(1, 1, 32, 32)}, r"fails on a picture \(1, 1, 32, 32\)"),
    ],
)
def test_networks_that_are_refused(
    tmp_path: Path, network: nn.Module, options: dict[str, Any], message: str
) -> None:
    """One sentence with the shape, the layer or the line; no file is written."""
    with pytest.raises(ExportError, match=message) as error:
        export.export(network, tmp_path / "out", **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 17},
        {"channels": 2},
        {"multiple": 0},
        {"example": torch.zeros(3, 8, 8)},
        {"example": torch.zeros(1, 3, 8, 8), "channels": 1},
        {"precisions": ("int8",)},
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any]) -> None:
    """They are usage errors, before anything is run."""
    with pytest.raises(UsageError):
        export.export(Doubling(), tmp_path / "out", **options)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of networks, and weights for one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_nets.py").write_text(CODE, encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "own"}
    exec(CODE, namespace)
    torch.manual_seed(2)
    network = namespace["Doubling"]()
    torch.save({"params_ema": network.state_dict()}, tmp_path / "w.pth")
    wrapped = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save(wrapped, tmp_path / "parallel.pth")
    return tmp_path


def test_a_network_in_a_file(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The class is built and its weights are loaded; a second run leaves the file as it is."""
    call = ["own_nets.py:Doubling", "--weights", "w.pth", "--scale", "2", "-o", "out"]
    assert main([*call, "--no-comparison"]) == 0
    assert "exported with torch.export, any size" in capsys.readouterr().out
    namespace: dict[str, Any] = {"__name__": "own"}
    exec(CODE, namespace)
    network = namespace["Doubling"]()
    load(network, code / "parallel.pth")
    check_file(code / "out" / "doubling.onnx", network)
    assert main([*call, "--no-comparison"]) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["own_nets.py:factory"], "missing a required argument: 'width'"),
        (["own_nets.py:Nothing"], "there is no 'Nothing'; its networks: Doubling, Broken"),
        (["own_nets.py:Broken"], "RuntimeError: no such luck (own_nets.py:"),
        (["none.py:Doubling"], "none.py: no such file"),
        (["no.such.module:Doubling"], "cannot be imported: ModuleNotFoundError"),
        (
            ["own_nets.py:factory", "--arg", "width=4", "--weights", "w.pth"],
            "3 of another shape: first.bias (8,) instead of (4,)",
        ),
        (["w.pth", "--scale", "2"], "--scale: for networks of your own only"),
        (["own_nets.py:factory", "--arg", "width"], "expected name=value"),
    ],
)
def test_code_that_is_refused(
    code: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The error names what is wrong and the fix; nothing is written."""
    assert main([*arguments, "-o", "out"]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not (code / "out").exists()


def test_arguments_of_a_class() -> None:
    """Literals are parsed, other texts are taken as they are."""
    texts = ["width=64", "act=relu", "depths=[2, 2]", "bias=False"]
    wanted = {"width": 64, "act": "relu", "depths": [2, 2], "bias": False}
    assert parse_arguments(texts) == wanted


@pytest.mark.parametrize("kind", ["script", "trace", "dynamic", "fixed"])
def test_archives_of_torch(tmp_path: Path, kind: str) -> None:
    """TorchScript and torch.export files are told apart by content, and computed alike."""
    network = Doubling().eval()
    path = tmp_path / "net.pt"
    picture = torch.rand(2, 3, 28, 44)
    jit: Any = torch.jit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        if kind == "script":
            jit.script(Doubling().train()).save(path)
        elif kind == "trace":
            jit.trace(network, picture).save(path)
        else:
            path = tmp_path / "net.pt2"
            axes = {axis: torch.export.Dim(f"d{axis}") for axis in (0, 2, 3)}
            shapes = (axes,) if kind == "dynamic" else None
            example = (picture if kind == "dynamic" else picture[:1],)
            torch.export.save(torch.export.export(network, example, dynamic_shapes=shapes), path)
        assert main([str(path), "--name", "net", "-o", str(tmp_path), "--no-comparison"]) == 0
    manifest = read_manifest(tmp_path / "net.onnx")
    assert manifest is not None
    assert manifest.size_px == ((28, 44) if kind == "fixed" else None)
    check_file(tmp_path / "net.onnx", network)


class Malice:
    """Run code when unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (print, ("pwned",))


def test_pickled_objects_in_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Torch would run the code that they name: the archive is refused before torch reads it."""
    good, bad = tmp_path / "good.pt2", tmp_path / "bad.pt2"
    torch.export.save(torch.export.export(Doubling().eval(), (torch.rand(1, 3, 8, 8),)), good)
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(bad, "w") as new:
        for name in old.namelist():
            is_input = "/data/sample_inputs/" in name
            new.writestr(name, pickle.dumps(Malice()) if is_input else old.read(name))
    with pytest.raises(ExportError, match="holds pickled objects"):
        open_source(bad)
    assert "pwned" not in capsys.readouterr().out


def test_a_wrong_file_is_not_accepted() -> None:
    """What is wrong at other sizes than the recorded one is found, and the next way is tried."""
    network = Uint8Graph(Doubling()).eval()
    model = build_traced(network, 2)
    calls: list[Way] = []

    def build(way: Way) -> Any:
        calls.append(way)
        return model

    def reference(batch: Any) -> Any:
        result = network(torch.from_numpy(batch)).detach().numpy()
        # the first file seems wrong at sizes other than the recorded one
        return result if len(calls) > 1 else np.roll(result, 1, axis=1)

    every = iter([Way("torch.export"), Way("TorchScript")])
    _, way = choose(build, reference, 3, every)
    assert way.exporter == "TorchScript"
    assert "torch.export, any size: at " in way.failed[0]
    assert "differs from the network by" in way.failed[0]


def window_reverse(windows: Tensor, window_size: int, H: int, W: int) -> Tensor:  # noqa: N803
    """Put windows together as Swin Transformer's code does, with the batch as an integer."""
    b = int(windows.shape[0] / (H * W / window_size / window_size))
    x = windows.view(b, H // window_size, W // window_size, window_size, window_size, -1)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(b, H, W, -1)


class Windowed(Doubling):
    """Cut the picture into windows of 4 px and put it together again."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale each window by its mean."""
        n, channels, height, width = x.shape
        cut = x.permute(0, 2, 3, 1).view(n, height // 4, 4, width // 4, 4, channels)
        windows = cut.permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 4, channels)
        windows = windows * (0.5 + windows.mean(dim=(1, 2), keepdim=True))
        return super().forward(window_reverse(windows, 4, height, width).permute(0, 3, 1, 2))


def test_the_batch_of_swin_transformers(tmp_path: Path) -> None:
    """Their `window_reverse` is replaced while a network is recorded, and put back."""
    kept = window_reverse
    windows = torch.rand(12, 4, 4, 3)
    with traceable(Windowed()):
        assert window_reverse is not kept
        assert torch.equal(window_reverse(windows, 4, 8, 12), kept(windows, 4, 8, 12))
    assert window_reverse is kept
    report = export.export(Windowed(), tmp_path / "w.onnx")
    assert report.way is not None
    assert report.way.failed == ()
    assert report.made[0].manifest.multiple_px == 4


def test_a_run_without_values() -> None:
    """It counts operators, and stops where Python reads a value."""
    picture = torch.rand(1, 3, 16, 16)
    assert 4 <= operators(Doubling().eval(), picture) <= 20
    check_branches(Doubling().eval(), picture)
    with pytest.raises(BranchError, match=r"if x\.mean"):
        check_branches(Branching().eval(), picture)


def test_public_names() -> None:
    """What is documented is there, and sorted."""
    assert export.__all__ == sorted(export.__all__)
    assert all(hasattr(export, name) for name in export.__all__)
