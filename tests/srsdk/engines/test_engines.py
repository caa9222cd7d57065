"""Real engines: foreign models, broken files, and the choice of a backend."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

import srsdk
from srsdk import models
from srsdk.engines import cpu, openvino, select
from srsdk.engines.backends import BACKENDS
from srsdk.options import Backend
from tests import networks
from tests.conftest import make_picture


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_foreign_rgb_model(tmp_path: Path, backend: Backend, channels_last: bool) -> None:
    """Scale, layout and type are inferred from the graph; the expected result is nearest."""
    path = networks.nearest(tmp_path / "n.onnx", scale=3, channels_last=channels_last)
    picture = make_picture(90, 75)
    with srsdk.Upscaler(path, backend=backend, tile=70) as up:
        assert (up.manifest.scale, up.manifest.dtype) == (3, "uint8")
        assert up.manifest.io["layout"] == ("NHWC" if channels_last else "NCHW")
        expected = picture.repeat(3, axis=0).repeat(3, axis=1)
        np.testing.assert_array_equal(up(picture), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_foreign_luma_model(tmp_path: Path, backend: Backend) -> None:
    """One channel means luma: the network upscales luma, and color is resized."""
    path = networks.nearest(tmp_path / "y.onnx", channels=1)
    gray = np.repeat(make_picture(40, 50)[:, :, :1], 3, axis=2)
    with srsdk.Upscaler(path, backend=backend) as up:
        assert up.manifest.channels == 1
        result = up(gray).astype(int)
        assert np.abs(result - gray.repeat(2, axis=0).repeat(2, axis=1)).max() <= 1
        color = up(make_picture(40, 50))
    assert np.ptp(color[..., 0].astype(int) - color[..., 2]) > 50


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(20, 30), (48, 64), (130, 70)])
def test_a_foreign_model_of_one_size(
    tmp_path: Path, backend: Backend, size: tuple[int, int]
) -> None:
    """A fixed input size accepts smaller and larger pictures; another tile is rejected."""
    path = networks.nearest(tmp_path / "f.onnx", size=(48, 64))
    picture = make_picture(*size)
    with srsdk.Upscaler(path, backend=backend) as up:
        assert up.manifest.size_px == (48, 64)
        np.testing.assert_array_equal(up(picture), picture.repeat(2, axis=0).repeat(2, axis=1))
    with pytest.raises(srsdk.UsageError, match=r"accepts \(48, 64\) only"):
        srsdk.Upscaler(path, backend=backend, tile=64)


@pytest.mark.parametrize("backend", BACKENDS)
def test_models_that_are_not_image_models(tmp_path: Path, backend: Backend) -> None:
    """A classifier, a graph with five channels and an empty file are rejected with one message."""
    with pytest.raises(srsdk.ModelError, match="not an image model"):
        srsdk.Upscaler(networks.classifier(tmp_path / "c.onnx"), backend=backend)
    with pytest.raises(srsdk.ModelError, match="expected a picture of four dimensions"):
        srsdk.Upscaler(networks.nearest(tmp_path / "n.onnx", channels=5), backend=backend)
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(b"")
    with pytest.raises(srsdk.ModelError, match="empty"):
        srsdk.Upscaler(empty, backend=backend)


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
def test_a_graph_that_the_library_refuses(tmp_path: Path, backend: Backend) -> None:
    """A file that parses but has an unknown operator: the library's reason is passed on."""
    whole = networks.nearest(tmp_path / "n.onnx").read_bytes()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(whole.replace(b"Resize", b"Rasize"))
    with pytest.raises(srsdk.ModelError, match=r"broken\.onnx") as error:
        srsdk.Upscaler(broken, backend=backend)
    assert error.value.__cause__ is not None
    assert "\n" not in str(error.value)


def test_auto_uses_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO first, then ONNX Runtime; if neither is installed, the error names the extra."""
    monkeypatch.setattr(select, "installed", lambda name: name == "onnxruntime")
    assert select.choose_backend("auto") == "onnxruntime"
    with pytest.raises(srsdk.BackendError, match=r"pip install 'srsdk\[cpu\]'"):
        select.choose_backend("openvino")
    monkeypatch.setattr(select, "installed", lambda _: False)
    with pytest.raises(srsdk.BackendError, match=r"pip install 'srsdk\[cpu\]'"):
        select.choose_backend("auto")


class RefusingCore:
    """OpenVINO on a machine where it can read a graph but not run it."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def read_model(self, model: Any) -> Any:
        """Read the model, as the real Core does."""
        return self._real.read_model(model)

    def get_property(self, *_: str) -> list[str]:
        """Report all capabilities."""
        return ["FP32", "INT8", "BF16"]

    def query_model(self, *_: Any) -> NoReturn:
        """Refuse the model."""
        raise RuntimeError("in a pass:\nConvolution input precision should be single")

    compile_model = query_model


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make OpenVINO refuse every file after reading it, as it does with some on ARM64."""
    monkeypatch.setattr(openvino, "_COMPILES_ALL", False)
    monkeypatch.setattr(openvino, "_CORE", RefusingCore(openvino._CORE))


@pytest.mark.usefixtures("refusing")
def test_auto_falls_back_when_openvino_refuses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The fallback is decided once, at opening, and shown in one log line and in repr()."""
    path = networks.nearest(tmp_path / "n.onnx", scale=3)
    picture = make_picture(20, 30)
    with caplog.at_level(logging.WARNING, "srsdk"), srsdk.Upscaler(path) as up:
        assert (up.backend, up.device) == ("onnxruntime", "cpu")
        assert "onnxruntime on cpu (openvino refuses this file)" in repr(up)
        for _ in range(2):
            np.testing.assert_array_equal(up(picture), picture.repeat(3, axis=0).repeat(3, axis=1))
        assert up(picture.astype(np.uint16)).dtype == np.uint16
    found, record = caplog.records
    assert "has no manifest" in found.getMessage()
    assert record.name == "srsdk"
    for part in (str(path), "should be single", "onnxruntime"):
        assert part in record.getMessage()


@pytest.mark.usefixtures("refusing")
def test_a_named_backend_that_refuses_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is never opened by a backend other than the named one; the error suggests it."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    path = networks.nearest(tmp_path / "n.onnx")
    with pytest.raises(srsdk.ModelError, match=r"single'?; try backend='onnxruntime'") as error:
        srsdk.Upscaler(path, backend="openvino")
    assert isinstance(error.value.__cause__, RuntimeError)
    with pytest.raises(srsdk.ModelError, match="should be single"):
        srsdk.Upscaler(path, precision="bf16")


@pytest.mark.usefixtures("refusing")
def test_without_another_backend_the_first_refusal_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the other backend is not installed, `auto` raises the same error as a named backend."""
    monkeypatch.setattr(cpu, "installed", lambda name: name == "openvino")
    with pytest.raises(srsdk.ModelError, match="should be single"):
        srsdk.Upscaler(networks.nearest(tmp_path / "n.onnx"))


@pytest.mark.usefixtures("refusing")
def test_a_refused_shape_suggests_the_other_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a check at opening, the error of the first tile suggests what to try."""
    monkeypatch.setattr(openvino, "_COMPILES_ALL", True)
    engine = select.open_engine(models.find("gan_x2"), "openvino", allow_fallback=True, cache=False)
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
def test_nothing_phones_home(tmp_path: Path, backend: Backend) -> None:
    """Neither library connects to a server or leaves files in the home directory.

    srsdk's own cache is in the folder of `SRSDK_CACHE`.
    """
    home, kept = tmp_path / "home", tmp_path / "kept"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SRSDK_CACHE": str(kept)}
    call = [sys.executable, "-c", QUIET, backend]
    result = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert list(home.rglob("*")) == []


LATE = """
import sys
import srsdk.engines.openvino
assert "openvino.tools.ovc" not in sys.modules
import openvino
try:
    openvino.nothing
except AttributeError as error:
    print(error)
print(openvino.convert_model.__name__)
"""


def test_the_converter_of_openvino_is_imported_late() -> None:
    """It takes 20 ms that srsdk has no use for; an application still finds it."""
    call = [sys.executable, "-c", LATE]
    result = subprocess.run(call, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        "module 'openvino' has no attribute 'nothing'",
        "convert_model",
    ]


def test_bfloat16_that_the_user_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, where the library would crash: it asks the processor, its kernels the variable."""
    monkeypatch.setattr(openvino, "_CORE", _WithBf16())
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    with pytest.raises(srsdk.BackendError, match="ONEDNN_MAX_CPU_ISA=AVX2 switches bfloat16 off"):
        openvino.OpenVinoEngine(models.find("gan_x2"), threads=1, precision="bf16")


class _WithBf16:
    """A Core on a processor that has bfloat16."""

    def get_property(self, *_: str) -> list[str]:
        """Return the capabilities."""
        return ["FP32", "BF16"]
