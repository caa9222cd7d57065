"""Interop with other array libraries: exchange without copies, in stream order."""

from __future__ import annotations

import gc
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import srsdk
from srsdk.engines.cuda import dlpack
from srsdk.engines.cuda.arrays import DeviceArray, current_stream, is_on_gpu, stream_handle
from tests.conftest import make_picture


def test_streams_of_all_libraries() -> None:
    """Integers, the protocol as method or property, torch, PyCUDA, CuPy; 0 and None: default."""
    assert [stream_handle(s) for s in (None, 0, 1, 77)] == [1, 1, 1, 77]
    assert stream_handle(SimpleNamespace(__cuda_stream__=lambda: (0, 78))) == 78
    assert stream_handle(SimpleNamespace(__cuda_stream__=(0, 79))) == 79
    for name in ("cuda_stream", "handle", "ptr"):
        assert stream_handle(SimpleNamespace(**{name: 80})) == 80
    assert stream_handle(SimpleNamespace(cuda_stream=0)) == 1
    for wrong in ("0", -1, True, object()):
        with pytest.raises(srsdk.UsageError, match="expected an integer handle"):
            stream_handle(wrong)


def test_the_stream_that_a_library_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's current stream of the tensor's device, the interface's stream, or none."""

    class Tensor:
        device = "cuda:1"

    Tensor.__module__ = "torch"
    current = SimpleNamespace(current_stream=lambda device: f"stream of {device}")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=current))
    assert current_stream(Tensor()) == "stream of cuda:1"
    named = SimpleNamespace(__cuda_array_interface__={"stream": 77})
    assert current_stream(named) == 77
    assert current_stream(SimpleNamespace(__cuda_array_interface__={})) is None
    assert current_stream(SimpleNamespace()) is None


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_dlpack_borrows_from_real_libraries(name: str) -> None:
    """Address, shape, strides and device of numpy's and torch's capsules, which stay alive."""
    library = pytest.importorskip(name, reason=f"needs {name}")
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    tensor = pixels.copy() if library is np else library.from_numpy(pixels.copy())
    view = tensor[:, 1:]
    found = dlpack.borrow(view, None)
    assert (found.shape, found.strides, found.device[0]) == ((2, 2, 3), (9, 3, 1), dlpack.CPU)
    import ctypes

    del tensor, view
    gc.collect()
    raw = (ctypes.c_uint8 * 15).from_address(found.address)
    assert bytes(raw)[:6] == pixels[0, 1:].tobytes()
    wide = library.zeros((2, 2, 3))
    with pytest.raises(srsdk.PictureError, match="expected uint8"):
        dlpack.borrow(wide, None)


@pytest.mark.parametrize("name", ["numpy", "torch.utils.dlpack"])
def test_dlpack_lends_to_real_libraries(name: str) -> None:
    """They share the memory, and its owner lives until the last consumer is gone."""
    consumer = pytest.importorskip(name, reason=f"needs {name}").from_dlpack
    memory = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    address = memory.ctypes.data
    gone: list[bool] = []

    class Lender:
        """Exports CPU memory as a `DeviceArray` does."""

        def __dlpack__(self, **_: Any) -> Any:
            return dlpack.lend(address, (2, 4, 3), (dlpack.CPU, 0), self)

        def __dlpack_device__(self) -> tuple[int, int]:
            return dlpack.CPU, 0

        def __del__(self) -> None:
            gone.append(True)

    before = len(dlpack._lent)
    tensor = consumer(Lender())
    gc.collect()
    assert (tuple(tensor.shape), gone) == ((2, 4, 3), [])
    assert int(tensor[1, 3, 2]) == 23
    del tensor
    gc.collect()
    assert gone == [True]
    unused = Lender().__dlpack__()
    assert len(dlpack._lent) == before + 1
    del unused
    gc.collect()
    assert len(dlpack._lent) == before
    assert gone == [True, True]


def test_what_is_on_the_cpu_is_not_on_a_gpu() -> None:
    """Arrays of numpy, paths, classes and other objects."""
    for thing in (np.zeros(3), "a.png", DeviceArray, None, 3):
        assert not is_on_gpu(thing)


def test_a_tensor_on_the_cpu_is_not_on_a_gpu() -> None:
    """PyTorch's CPU tensors have the attribute `__cuda_array_interface__`, too."""
    assert not is_on_gpu(pytest.importorskip("torch", reason="needs torch").zeros(3))


def test_out_on_the_host() -> None:
    """A numpy buffer is filled in place; a wrong one is rejected before any work."""
    picture = make_picture(20, 30)
    with srsdk.Upscaler("gan_x2") as up:
        expected = up(picture)
        out = np.zeros((40, 60, 3), np.uint8)
        assert up(picture, out=out) is out
        np.testing.assert_array_equal(out, expected)
        wrongs: tuple[Any, ...] = (np.zeros((40, 60, 3)), np.zeros((40, 61, 3), np.uint8), [1])
        for wrong in wrongs:
            with pytest.raises(srsdk.PictureError, match=r"out is .*, expected a numpy array"):
                up(picture, out=wrong)
        frozen = out.copy()
        frozen.flags.writeable = False
        with pytest.raises(srsdk.PictureError, match="read-only"):
            up(picture, out=frozen)
        no_stream: Any = {"stream": 3}
        with pytest.raises(srsdk.UsageError, match="stream= is for an array on a GPU"):
            up(picture, **no_stream)
