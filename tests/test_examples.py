"""The examples work, as far as this machine can run them."""

from __future__ import annotations

import importlib.util
import io
import sys
import threading
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import srsdk
from tests.conftest import make_picture
from tests.fakes.cuda import FakeRuntime
from tests.srsdk.gpu_fixtures import OnGpu, open_upscaler, write_engine


def load(repository: Path, name: str) -> Any:
    """Import an example from its file."""
    spec = importlib.util.spec_from_file_location(name, repository / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_server(repository: Path) -> None:
    """Eight concurrent pictures come back right; an invalid request gets status 400."""
    example = load(repository, "server")
    pictures = [make_picture(20 + index, 30, index) for index in range(8)]
    answers: dict[int, Any] = {}
    with (
        srsdk.Upscaler("gan_x2") as up,
        ThreadingHTTPServer(("127.0.0.1", 0), example.Handler) as server,
    ):
        example.Handler.up = up
        example.Handler.log_message = lambda *_: None
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"

        def ask(index: int) -> None:
            body = io.BytesIO()
            Image.fromarray(pictures[index]).save(body, "PNG")
            with urllib.request.urlopen(url, body.getvalue()) as answer:
                answers[index] = np.asarray(Image.open(io.BytesIO(answer.read())))

        askers = [threading.Thread(target=ask, args=(index,)) for index in range(8)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(url, b"no picture")
        assert error.value.code == 400
        error.value.close()
        server.shutdown()
        thread.join()
        for index, picture in enumerate(pictures):
            np.testing.assert_array_equal(answers[index], up(picture))


def test_the_pycuda_application(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stand-ins for PyCUDA and the GPU, it writes the right picture."""
    example, cuda = load(repository, "pycuda_app"), FakeRuntime(2)

    class GPUArray(OnGpu):
        dtype = np.dtype(np.uint8)

        def get_async(self, stream: Any) -> Any:
            return self.read(stream.handle)

    GPUArray.__module__ = "pycuda.gpuarray"
    stream = SimpleNamespace(handle=cuda.cudaStreamCreateWithFlags(1)[1], synchronize=lambda: None)
    modules: dict[str, Any] = {
        name: ModuleType(name)
        for name in ("pycuda", "pycuda.autoprimaryctx", "pycuda.driver", "pycuda.gpuarray")
    }
    modules["pycuda"].gpuarray = modules["pycuda.gpuarray"]
    modules["pycuda"].driver = modules["pycuda.driver"]
    modules["pycuda.driver"].Stream = lambda: stream
    gpuarray = modules["pycuda.gpuarray"]
    gpuarray.to_gpu_async = lambda pixels, stream: GPUArray(cuda, pixels, stream=stream.handle)
    gpuarray.empty = lambda shape, dtype: GPUArray(cuda, np.zeros(shape, np.uint8))
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("srsdk.engines.cuda.pycuda.check_primary_context", lambda _: None)
    picture = make_picture(60, 70)
    Image.fromarray(picture).save(tmp_path / "in.png")
    engine = write_engine(tmp_path / "x.engine")
    opened = open_upscaler(monkeypatch, engine, cuda)
    monkeypatch.setattr(srsdk, "Upscaler", lambda *_, **__: opened)
    example.main(str(engine), str(tmp_path / "in.png"), str(tmp_path / "out.png"))
    expected = picture.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), expected)


def test_the_guide_names_what_exists(repository: Path) -> None:
    """The errors and methods that docs/gpu.md names exist."""
    text = (repository / "docs" / "gpu.md").read_text(encoding="utf-8")
    for name in ("EngineMismatch", "OutOfMemoryError", "HealthError", "Upscaler"):
        assert name in text
        assert hasattr(srsdk, name)
    for name in ("plan", "profile"):
        assert f"up.{name}(" in text
        assert hasattr(srsdk.Upscaler, name)
