"""NVIDIA's cuda.core as the neighbor: its streams, its buffers, its view of our arrays.

The real library, on the simulated driver; `pip install cuda-core`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import make_picture
from tests.simulated.fixtures import OnGpu, open_upscaler, read, write_engine
from tests.simulators.cuda import Simulator

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("cuda.core") is None, reason="needs cuda.core: pip install cuda-core"
)


@pytest.fixture
def device(gpu: Simulator) -> Iterator[Any]:
    """Its device, current in this thread."""
    from cuda.bindings import driver
    from cuda.core import Device

    made = Device(0)
    made.set_current()
    yield made
    driver.cuCtxSetCurrent(0)


@pytest.mark.parametrize("seed", range(20))
def test_its_streams_and_its_view(
    gpu: Simulator, device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Its stream object is taken; its view of the result is on another stream of its own, in order.

    The view goes by DLPack and by `__cuda_array_interface__`.
    """
    from cuda.core.utils import StridedMemoryView

    gpu.reset(seed)
    picture = make_picture(50, 60, seed)
    engine = write_engine(tmp_path / "x.engine")
    with open_upscaler(monkeypatch, engine, gpu) as up:
        expected = up(picture)
        stream, readers = device.create_stream(), device.create_stream()
        handle, readers_handle = int(stream.handle), int(readers.handle)
        source = OnGpu(gpu, picture, stream=handle)
        result = up(source, stream=stream)
        for make in (StridedMemoryView.from_dlpack, StridedMemoryView.from_cuda_array_interface):
            view = make(result, stream_ptr=readers_handle)
            assert (view.ptr, tuple(view.shape)) == (result.address, expected.shape)
            assert view.is_device_accessible
            np.testing.assert_array_equal(read(gpu, result, readers_handle), expected)
            del view
        result.close()
        source.close()
        for one in (stream, readers):
            one.sync()
            one.close()


def test_its_buffers_are_not_pictures(
    gpu: Simulator, device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buffer of bytes has one dimension: the error names the shape."""
    import srsdk

    engine = write_engine(tmp_path / "x.engine")
    with open_upscaler(monkeypatch, engine, gpu) as up:
        stream = device.create_stream()
        buffer = device.memory_resource.allocate(1800, stream=stream)
        with pytest.raises(srsdk.PictureError, match="expected"):
            up(buffer, stream=stream)
        buffer.close(stream)
        stream.sync()
        stream.close()
