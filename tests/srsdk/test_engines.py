"""Real engines: files of others, broken files, and the choice among backends."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

import srsdk
from srsdk import engines, models
from srsdk.engines import BACKENDS, cpu, openvino
from tests import networks
from tests.conftest import make_picture


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_foreign_rgb_model(tmp_path: Path, backend: str, channels_last: bool) -> None:
    """Scale, layout and type are inferred from the graph; the answer is known: nearest."""
    path = networks.nearest(tmp_path / "n.onnx", scale=3, channels_last=channels_last)
    picture = make_picture(90, 75)
    with srsdk.Upscaler(path, backend=backend, tile=70) as up:
        assert (up.manifest.scale, up.manifest.dtype) == (3, "float32")
        assert up.manifest.layout == ("NHWC" if channels_last else "NCHW")
        expected = picture.repeat(3, axis=0).repeat(3, axis=1)
        np.testing.assert_array_equal(up(picture), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_foreign_luma_model(tmp_path: Path, backend: str) -> None:
    """One channel means luma: brightness goes through the network, colour is resized."""
    path = networks.nearest(tmp_path / "y.onnx", channels=1)
    grey = np.repeat(make_picture(40, 50)[:, :, :1], 3, axis=2)
    with srsdk.Upscaler(path, backend=backend) as up:
        assert up.manifest.channels == 1
        result = up(grey).astype(int)
        assert np.abs(result - grey.repeat(2, axis=0).repeat(2, axis=1)).max() <= 1
        colour = up(make_picture(40, 50))
    assert np.ptp(colour[..., 0].astype(int) - colour[..., 2]) > 50


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(20, 30), (48, 64), (130, 70)])
def test_a_foreign_model_of_one_size(tmp_path: Path, backend: str, size: tuple[int, int]) -> None:
    """A fixed input size takes smaller and larger pictures; another tile is refused."""
    path = networks.nearest(tmp_path / "f.onnx", size=(48, 64))
    picture = make_picture(*size)
    with srsdk.Upscaler(path, backend=backend) as up:
        assert up.manifest.size_px == (48, 64)
        np.testing.assert_array_equal(up(picture), picture.repeat(2, axis=0).repeat(2, axis=1))
    with pytest.raises(srsdk.UsageError, match=r"accepts \(48, 64\) only"):
        srsdk.Upscaler(path, backend=backend, tile=64)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_image_model(tmp_path: Path, backend: str) -> None:
    """A classifier, a graph of five channels and garbage are refused in one sentence."""
    with pytest.raises(srsdk.ModelError, match="no image model"):
        srsdk.Upscaler(networks.classifier(tmp_path / "c.onnx"), backend=backend)
    with pytest.raises(srsdk.ModelError, match="expected 1 or 3 channels"):
        srsdk.Upscaler(networks.nearest(tmp_path / "n.onnx", channels=5), backend=backend)
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    with pytest.raises(srsdk.ModelError, match="empty"):
        srsdk.Upscaler(empty, backend=backend)


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
def test_a_graph_that_the_library_refuses(tmp_path: Path, backend: str) -> None:
    """Whole to our reader, cut off within the graph: the library's reason is passed on."""
    whole = networks.nearest(tmp_path / "n.onnx").read_bytes()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(whole.replace(b"Resize", b"Rasize"))
    with pytest.raises(srsdk.ModelError, match=r"broken\.onnx") as error:
        srsdk.Upscaler(broken, backend=backend)
    assert error.value.__cause__ is not None
    assert "\n" not in str(error.value)


def test_auto_takes_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO first, then ONNX Runtime; nothing installed names the extra."""
    monkeypatch.setattr(engines, "installed", lambda name: name == "onnxruntime")
    assert engines.choose_backend("auto") == "onnxruntime"
    with pytest.raises(srsdk.BackendError, match=r"pip install 'srsdk\[cpu\]'"):
        engines.choose_backend("openvino")
    monkeypatch.setattr(engines, "installed", lambda _: False)
    with pytest.raises(srsdk.BackendError, match=r"pip install 'srsdk\[cpu\]'"):
        engines.choose_backend("auto")


class RefusingCore:
    """OpenVINO on a machine where it reads a graph and does not run it."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def read_model(self, model: Any) -> Any:
        """Read it, as the real one does."""
        return self._real.read_model(model)

    def get_property(self, *_: str) -> list[str]:
        """Have everything."""
        return ["FP32", "INT8", "BF16"]

    def query_model(self, *_: Any) -> NoReturn:
        """Refuse it."""
        raise RuntimeError("in a pass:\nConvolution input precision should be single")

    compile_model = query_model


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let OpenVINO refuse every file, as on ARM64 it does some: after it has read it."""
    monkeypatch.setattr(openvino, "_COMPILES_ALL", False)
    monkeypatch.setattr(openvino, "_CORE", RefusingCore(openvino._CORE))


@pytest.mark.usefixtures("refusing")
def test_auto_opens_by_the_other_what_openvino_refuses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Decided once, at opening: said in one line of the log and in repr(), whatever follows."""
    path = networks.nearest(tmp_path / "n.onnx", scale=3)
    picture = make_picture(20, 30)
    with caplog.at_level(logging.WARNING, "srsdk"), srsdk.Upscaler(path) as up:
        assert (up.backend, up.device) == ("onnxruntime", "cpu")
        assert "onnxruntime on cpu (openvino refuses this file)" in repr(up)
        for _ in range(2):
            np.testing.assert_array_equal(up(picture), picture.repeat(3, axis=0).repeat(3, axis=1))
        assert up(picture.astype(np.uint16)).dtype == np.uint16
    [record] = caplog.records
    assert record.name == "srsdk"
    for part in (str(path), "should be single", "onnxruntime"):
        assert part in record.getMessage()


@pytest.mark.usefixtures("refusing")
def test_a_named_backend_that_refuses_is_an_error(tmp_path: Path) -> None:
    """No file is opened by another backend than the named one; the error names the other."""
    path = networks.nearest(tmp_path / "n.onnx")
    with pytest.raises(srsdk.ModelError, match=r"single'?; try backend='onnxruntime'") as error:
        srsdk.Upscaler(path, backend="openvino")
    assert isinstance(error.value.__cause__, RuntimeError)
    with pytest.raises(srsdk.ModelError, match="should be single"):
        srsdk.Upscaler(path, precision="bf16")


@pytest.mark.usefixtures("refusing")
def test_what_nobody_else_can_open_is_the_first_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the other backend is not installed, `auto` is refused as the named one is."""
    monkeypatch.setattr(cpu, "installed", lambda name: name == "openvino")
    with pytest.raises(srsdk.ModelError, match="should be single"):
        srsdk.Upscaler(networks.nearest(tmp_path / "n.onnx"))


@pytest.mark.usefixtures("refusing")
def test_a_shape_that_is_refused_names_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is asked at opening, the error of the first tile says what to try."""
    monkeypatch.setattr(openvino, "_COMPILES_ALL", True)
    engine = engines.open_engine(models.find("gan_x2"), "openvino", or_other=True)
    assert engine.backend == "openvino"
    with pytest.raises(srsdk.BackendError, match=r"single'?; try backend='onnxruntime'"):
        engine.slot((1, 20, 30, 3))


QUIET = """
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        sys.exit(f"{event}{arguments}")

sys.addaudithook(refuse)
import threading
threading.excepthook = lambda failure: sys.exit(repr(failure))
import numpy as np, srsdk
srsdk.Upscaler("gan_x2", backend=sys.argv[1])(np.zeros((9, 9, 3), np.uint8))
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_phones_home(tmp_path: Path, backend: str) -> None:
    """Both libraries would report their use: no connection is tried, no trace left at home.

    What srsdk itself remembers of a file goes where `SRSDK_CACHE` says.
    """
    home, kept = tmp_path / "home", tmp_path / "kept"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SRSDK_CACHE": str(kept)}
    call = [sys.executable, "-c", QUIET, backend]
    result = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert list(home.rglob("*")) == []
