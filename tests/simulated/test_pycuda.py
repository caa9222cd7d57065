"""PyCUDA's arrays, streams and contexts: the real library where it is installed, else a stand-in.

PyCUDA has no wheels. With a CUDA toolkit and its source archive unpacked, it builds against the
simulator, linked as `libcuda.so` into a folder DRIVER:

    python configure.py --cuda-root=TOOLKIT --no-cuda-enable-curand --cudadrv-lib-dir=DRIVER
    pip install .
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import srsdk
from tests.conftest import make_picture
from tests.simulated.fixtures import OnGpu, open_upscaler, write_engine
from tests.simulators.cuda import Simulator

ROOT = Path(__file__).parents[2]

needs_pycuda = pytest.mark.skipif(
    importlib.util.find_spec("pycuda") is None, reason="needs PyCUDA, built from source"
)


@pytest.fixture
def engine_file(tmp_path: Path) -> Path:
    """An engine file with one profile of 1x32x48."""
    return write_engine(tmp_path / "x.engine")


@pytest.fixture
def context(gpu: Simulator) -> Iterator[Any]:
    """PyCUDA in the primary context, as `pycuda.autoprimaryctx` leaves it."""
    import pycuda.driver

    pycuda.driver.init()
    made = pycuda.driver.Device(0).retain_primary_context()
    made.push()
    yield made
    made.pop()


@needs_pycuda
@pytest.mark.parametrize("seed", range(20))
def test_arrays_of_pycuda(
    gpu: Simulator, context: Any, engine_file: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A `GPUArray` gives a `GPUArray`, in the order of PyCUDA's stream, with late content."""
    import pycuda.driver
    import pycuda.gpuarray

    gpu.reset(seed)
    picture = make_picture(50, 60, seed)
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        expected = up(picture)
        stream = pycuda.driver.Stream()
        host = pycuda.driver.pagelocked_empty(picture.shape, np.uint8)
        host[...] = picture
        source = pycuda.gpuarray.to_gpu_async(host, stream=stream)
        result = up(source, stream=stream)
        assert isinstance(result, pycuda.gpuarray.GPUArray)
        back = result.get_async(stream=stream)
        stream.synchronize()
        np.testing.assert_array_equal(back, expected)
        target = pycuda.gpuarray.empty(expected.shape, np.uint8)
        assert up(source, out=target, stream=stream) is target
        stream.synchronize()
        np.testing.assert_array_equal(target.get(), expected)
        for array in (source, result, target):
            array.gpudata.free()
        host.base.free()
        del stream


@needs_pycuda
def test_a_context_of_its_own_is_refused(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pycuda.autoinit` makes a second context, whose memory cannot be used."""
    import pycuda.driver
    import pycuda.gpuarray

    pycuda.driver.init()
    made = pycuda.driver.Device(0).make_context()
    try:
        with open_upscaler(monkeypatch, engine_file, gpu) as up:
            source = pycuda.gpuarray.to_gpu(make_picture(20, 30))
            with pytest.raises(srsdk.BackendError, match=r"import pycuda\.autoprimaryctx"):
                up(source)
            source.gpudata.free()
    finally:
        made.pop()
        made.detach()


@needs_pycuda
def test_the_example_with_pycuda(
    gpu: Simulator, context: Any, engine_file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """examples/pycuda_app.py as it is, but for its network."""
    monkeypatch.setitem(sys.modules, "pycuda.autoprimaryctx", ModuleType("autoprimaryctx"))
    _run_example(gpu, engine_file, tmp_path, monkeypatch)


def test_the_example_with_a_stand_in(
    gpu: Simulator, engine_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where PyCUDA is not installed."""
    made: list[OnGpu] = []

    class GPUArray(OnGpu):
        dtype = np.dtype(np.uint8)

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

        def get_async(self, stream: Any) -> Any:
            return self.read(stream.handle)

    from srsdk.engines.cuda.device import Device

    device = Device(0)
    with device.active():
        owned = device.stream()
    stream = SimpleNamespace(handle=owned.handle, synchronize=lambda: None)
    GPUArray.__module__ = "pycuda.gpuarray"
    names = ("pycuda", "pycuda.autoprimaryctx", "pycuda.driver", "pycuda.gpuarray")
    modules: dict[str, Any] = {name: ModuleType(name) for name in names}
    modules["pycuda"].gpuarray = gpuarray = modules["pycuda.gpuarray"]
    modules["pycuda"].driver = modules["pycuda.driver"]
    modules["pycuda.driver"].Stream = lambda: stream
    gpuarray.GPUArray = GPUArray
    gpuarray.to_gpu_async = lambda pixels, stream: GPUArray(gpu, pixels, stream=stream.handle)
    gpuarray.empty = lambda shape, dtype: GPUArray(gpu, np.zeros(shape, np.uint8), stream=1)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    _run_example(gpu, engine_file, tmp_path, monkeypatch)
    for array in made:
        array.close()
    with device.active():
        owned.close()


def _run_example(
    gpu: Simulator, engine: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("app", ROOT / "examples" / "pycuda_app.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    picture = make_picture(60, 70)
    Image.fromarray(picture).save(folder / "in.png")
    opened = open_upscaler(monkeypatch, engine, gpu)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(srsdk, "Upscaler", lambda *_, **__: opened)
        example.main(str(engine), str(folder / "in.png"), str(folder / "out.png"))
    expected = picture.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "out.png")), expected)
