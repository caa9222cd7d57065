"""Errors after which a GPU is lost, errors that pass, forks, contexts of others."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver

import srsdk
from srsdk.engines.cuda.device import Device
from tests.conftest import Picture, make_picture
from tests.simulated.fixtures import OnGpu, open_upscaler, write_engine
from tests.simulators.cuda import ILLEGAL_ADDRESS, LAUNCH_FAILED, OUT_OF_MEMORY, Simulator


@pytest.fixture
def engine_file(tmp_path: Path) -> Path:
    """An engine file with one profile of 1x32x48."""
    return write_engine(tmp_path / "x.engine")


def repeatedly(up: srsdk.Upscaler, picture: Picture) -> None:
    """Upscale until a fault that comes some time later is noticed."""
    for _ in range(3):
        up(picture)


def new_context() -> Any:
    """Make a context of its own and make it current, as `pycuda.autoinit` does."""
    cuda: Any = driver
    try:
        code, made = cuda.cuCtxCreate(None, 0, 0)
    except TypeError:  # cuda-bindings 12
        code, made = cuda.cuCtxCreate(0, 0)
    assert code == 0
    return made


@pytest.mark.parametrize("error", [ILLEGAL_ADDRESS, LAUNCH_FAILED])
def test_a_lost_gpu_leaves_the_process_usable(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch, error: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The call says that the GPU is lost and what to do; the CPU works, `close` is quiet."""
    picture = make_picture(90, 130)
    up = open_upscaler(monkeypatch, engine_file, gpu, slots=3)
    np.testing.assert_array_equal(up(picture), picture.repeat(2, axis=0).repeat(2, axis=1))
    gpu.fail("kernel", 2, error)
    with pytest.raises(srsdk.DeviceLostError, match=r"restart the process"):
        repeatedly(up, picture)
    with pytest.raises(srsdk.DeviceLostError, match=r"CUDA_ERROR_.*restart the process, or open"):
        up(picture)
    monkeypatch.undo()
    with pytest.raises(srsdk.DeviceLostError, match="lost"):
        Device(0)
    with srsdk.Upscaler("gan_x2", device="cpu", self_test=False) as cpu:
        assert cpu(picture).shape == (180, 260, 3)
    up.close()
    levels = [record.levelno for record in caplog.records if record.name == "srsdk"]
    assert levels.count(logging.ERROR) == 1, "one line says it, not one for each resource"
    assert logging.WARNING not in levels
    gpu.reset()


def test_a_lost_gpu_is_told_to_all_threads(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread waits forever: each gets the error or its picture."""
    picture = make_picture(90, 130)
    found: list[Any] = []
    with open_upscaler(monkeypatch, engine_file, gpu, slots=2) as up:
        up(picture)
        gpu.fail("kernel", 20, ILLEGAL_ADDRESS)

        def run() -> None:
            try:
                for _ in range(4):
                    up(picture)
            except srsdk.SrsdkError as error:
                found.append(error)

        threads = [threading.Thread(target=run) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
    assert found
    assert {type(error) for error in found} == {srsdk.DeviceLostError}
    gpu.reset()


def test_arrays_of_a_lost_gpu_close_quietly(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So do their tensors."""
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        source = OnGpu(gpu, make_picture(40, 50))
        made = up(source)
        assert made.__cuda_array_interface__["shape"] == (80, 100, 3)
        gpu.fail("kernel", 1, LAUNCH_FAILED)
        with pytest.raises(srsdk.DeviceLostError):
            repeatedly(up, make_picture(40, 50))
        made.close()
        source.close()
    gpu.reset()


def test_a_loss_that_close_learns_of_first(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making the context current may be the call that reports it: closing is quiet all the same."""
    up = open_upscaler(monkeypatch, engine_file, gpu, slots=2)
    up(make_picture(90, 130))
    source = OnGpu(gpu, make_picture(40, 50))
    made = up(source)
    gpu.fail("cuCtxPushCurrent", 1, ILLEGAL_ADDRESS)
    made.close()
    with pytest.raises(srsdk.DeviceLostError):
        up(make_picture(40, 50))
    source.close()
    up.close()
    gpu.reset()


def test_after_a_passing_error_everything_works(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory in a library's launch is an OutOfMemoryError, and the next call is right."""
    picture = make_picture(90, 130)
    with open_upscaler(monkeypatch, engine_file, gpu, slots=2) as up:
        expected = up(picture)
        gpu.fail("cuMemcpyHtoDAsync", 2, OUT_OF_MEMORY)
        # it is tried with less; this engine has no smaller tile
        with pytest.raises(srsdk.OutOfMemoryError):
            up(picture)
        assert Device(0).is_usable
    with open_upscaler(monkeypatch, engine_file, gpu, slots=2) as up:
        np.testing.assert_array_equal(up(picture), expected)


def test_a_fork_gets_a_sentence(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA does not survive a fork: an old Upscaler and a new one say so, and `close` is quiet."""
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        source = OnGpu(gpu, make_picture(20, 30))
        made = up(source)
        # taken by somebody: closing it waits for the GPU, but not in a fork
        assert made.__cuda_array_interface__["shape"] == (40, 60, 3)
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the parent has threads
            child = os.fork()
        if child == 0:
            told = [_told(lambda: up(make_picture(20, 30))), _told(lambda: Device(0))]
            told += [_told(lambda: _memory(up)), _told(made.close), _told(up.close)]
            os.write(writer, "\n".join(told).encode())
            os._exit(0)
        os.close(writer)
        assert os.waitpid(child, 0)[1] == 0
        lines = os.read(reader, 1 << 16).decode().splitlines()
        os.close(reader)
        made.close()
        source.close()
    assert "does not survive a fork" in lines[0]
    assert "fork of one that used the GPU" in lines[1]
    assert "spawn" in lines[1]
    assert "cuda:0 was opened in process" in lines[2]
    assert lines[3:] == ["nothing", "nothing"]


def _memory(up: Any) -> None:
    with up._engine.gpu.active():
        up._engine.gpu.memory()


def _told(call: Any) -> str:
    try:
        call()
    except srsdk.SrsdkError as error:
        return str(error)
    except BaseException as error:
        return repr(error)
    return "nothing"


def test_the_context_of_others_stays_current(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread keeps its own context, as PyCUDA's users have one, and gets no other."""
    cuda: Any = driver
    (_, before) = cuda.cuCtxGetCurrent()
    assert int(before) == 0
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        up(make_picture(40, 50))
        assert int(cuda.cuCtxGetCurrent()[1]) == 0
        mine = new_context()
        up(make_picture(40, 50))
        assert int(cuda.cuCtxGetCurrent()[1]) == int(mine)
        cuda.cuCtxDestroy(mine)


def test_no_context_on_other_gpus(gpu: Simulator) -> None:
    """Opening the sixth GPU makes no context on any other."""
    gpu.reset(devices=6)
    cuda: Any = driver
    device = Device(5)
    with device.active():
        device.allocate(100).close()
    active = [int(cuda.cuDevicePrimaryCtxGetState(index)[2]) for index in range(1, 6)]
    assert active == [0, 0, 0, 0, 1]


def test_another_context_of_pycuda_is_refused(
    gpu: Simulator, engine_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An array whose library works in a context of its own cannot be used: the fix is named."""
    from srsdk.engines.cuda import pycuda

    monkeypatch.setattr(pycuda, "is_gpuarray", lambda _: True)
    cuda: Any = driver
    with open_upscaler(monkeypatch, engine_file, gpu) as up:
        source = OnGpu(gpu, make_picture(20, 30))
        mine = new_context()
        with pytest.raises(srsdk.BackendError, match=r"import pycuda\.autoprimaryctx"):
            up(source)
        cuda.cuCtxDestroy(mine)
        source.close()
