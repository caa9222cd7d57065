"""Sections of `gpu-check`: arrays of other libraries on their own streams, whose data comes late.

A buffer of zeros gets its picture only after a long wait on a side stream. A call that does not
wait for that stream upscales the zeros; a consumer that does not wait for the call reads garbage.
The picture is copied from device memory: a pageable copy from the host would wait for the stream by
itself and hide a missing order.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
import torch as untyped_torch

from benchmarks.gpu.job import Job
from benchmarks.gpu.measure import Picture, Runner, manifest_for, picture
from benchmarks.gpu.torch_engine import Nearest, open_torch
from srsdk.scheduling.context import Call

torch: Any = untyped_torch
SLEEP_CYCLES = 60_000_000
"""About 30 ms: long against everything that a call enqueues."""
ROUNDS = 5


class Neighbor(Protocol):
    """A library with arrays and streams on the GPU."""

    def stream(self) -> Any:
        """Return a new stream that is not the default one."""

    def on(self, stream: Any) -> Any:
        """Return a context in which a stream is the current one."""

    def late(self, rgb: Picture, stream: Any) -> Any:
        """Return zeros that become the picture once the current stream has got there."""

    def consume(self, made: Any, stream: Any) -> Any:
        """Enqueue a copy of a result on the current stream, without waiting on the host."""

    def fetch(self, array: Any, stream: Any) -> Picture:
        """Wait for a stream and return an array of it."""


def check(job: Job, library: Neighbor, *, streams: bool = True) -> None:
    """Check the order of work in each direction; `streams`: the library lets a user choose them."""
    rgb = picture(211, 317)
    expected = rgb.repeat(2, axis=0).repeat(2, axis=1)
    run = Runner(open_torch(Nearest()), manifest_for("nearest", 2, 3), tile=64)
    cases = {"no stream given": (False, False)}
    if streams:
        cases |= {"stream given": (True, False), "read on another stream": (True, True)}
    try:
        run(rgb)  # slots, graphs and kernels exist before the order is tried
        for name, (given, other) in cases.items():
            wrong = 0
            for _ in range(ROUNDS):
                producer = library.stream()
                consumer = library.stream() if other else producer
                stream = producer if given else None
                with library.on(producer):
                    late = library.late(rgb, producer)
                    made = run.pipeline.upscale_on_gpu(late, None, stream, Call())
                with library.on(consumer):
                    copy = library.consume(made, consumer)
                wrong += not np.array_equal(library.fetch(copy, consumer), expected)
            job.keep(**{name: {"rounds": ROUNDS, "wrong": wrong}})
            job.check(f"{name}: exact", not wrong, wrong)
    finally:
        run.close()


def _sleep(handle: int) -> None:
    with torch.cuda.stream(torch.cuda.ExternalStream(handle)):
        torch.cuda._sleep(SLEEP_CYCLES)


class Torch:
    """PyTorch."""

    def stream(self) -> Any:
        """Return a stream of PyTorch's pool."""
        return torch.cuda.Stream()

    def on(self, stream: Any) -> Any:
        """Return PyTorch's own context."""
        return torch.cuda.stream(stream)

    def late(self, rgb: Picture, stream: Any) -> Any:
        """Return a tensor filled late."""
        staged = torch.from_numpy(rgb).cuda()
        torch.cuda.synchronize()
        tensor = torch.zeros_like(staged)
        _sleep(stream.cuda_stream)
        return tensor.copy_(staged)

    def consume(self, made: Any, stream: Any) -> Any:
        """Copy through DLPack."""
        return torch.from_dlpack(made).clone()

    def fetch(self, array: Any, stream: Any) -> Picture:
        """Return the tensor."""
        stream.synchronize()
        found: Picture = array.cpu().numpy()
        return found


class Cupy:
    """CuPy."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy

    def stream(self) -> Any:
        """Return a stream that does not wait for the default one."""
        return self._cupy.cuda.Stream(non_blocking=True)

    def on(self, stream: Any) -> Any:
        """Return the stream, which is a context."""
        return stream

    def late(self, rgb: Picture, stream: Any) -> Any:
        """Return an array filled late."""
        staged = self._cupy.asarray(rgb)
        self._cupy.cuda.Device().synchronize()
        array = self._cupy.zeros_like(staged)
        _sleep(stream.ptr)
        array[...] = staged
        return array

    def consume(self, made: Any, stream: Any) -> Any:
        """Copy through DLPack."""
        return self._cupy.from_dlpack(made).copy()

    def fetch(self, array: Any, stream: Any) -> Picture:
        """Return the array."""
        stream.synchronize()
        found: Picture = self._cupy.asnumpy(array)
        return found


class Numba:
    """Numba, whose arrays carry their stream in `__cuda_array_interface__`."""

    def __init__(self) -> None:
        from numba import cuda

        self._cuda = cuda

    def stream(self) -> Any:
        """Return a new stream."""
        return self._cuda.stream()

    def on(self, stream: Any) -> Any:
        """Return an empty context: each call of Numba names its stream."""
        return nullcontext()

    def late(self, rgb: Picture, stream: Any) -> Any:
        """Return an array filled late on the stream."""
        staged = self._cuda.to_device(rgb)
        array = self._cuda.to_device(np.zeros_like(rgb), stream=stream)
        self._cuda.synchronize()
        _sleep(int(stream))
        array.copy_to_device(staged, stream=stream)
        return array

    def consume(self, made: Any, stream: Any) -> Any:
        """Copy through `__cuda_array_interface__` on the stream."""
        view = self._cuda.as_cuda_array(made)
        copy = self._cuda.device_array(view.shape, np.uint8, stream=stream)
        copy.copy_to_device(view, stream=stream)
        return copy

    def fetch(self, array: Any, stream: Any) -> Picture:
        """Return the array."""
        found: Picture = array.copy_to_host(stream=stream)
        stream.synchronize()
        return found


class Jax:
    """JAX, which computes on a stream of its own that a user cannot choose."""

    def __init__(self) -> None:
        import jax

        self._jax = jax
        self._slow = jax.jit(self._products)

    def _products(self, rgb: Any) -> Any:
        """Return the picture after forty matrix products that add zero to it."""
        jax, side = self._jax, 4096
        m = jax.numpy.full((side, side), 1 / side, jax.numpy.float32)
        m = jax.lax.fori_loop(0, 40, lambda _, y: y @ m, m)
        return rgb + (0 * m.sum()).astype(jax.numpy.uint8)

    def stream(self) -> Any:
        """Return None: there is nothing to choose."""
        return None

    def on(self, stream: Any) -> Any:
        """Return an empty context."""
        return nullcontext()

    def late(self, rgb: Picture, stream: Any) -> Any:
        """Return an array that is not computed yet, although the call has returned."""
        self._slow(rgb).block_until_ready()  # compiled before
        return self._slow(rgb)

    def consume(self, made: Any, stream: Any) -> Any:
        """Copy through DLPack."""
        return self._jax.numpy.copy(self._jax.dlpack.from_dlpack(made))

    def fetch(self, array: Any, stream: Any) -> Picture:
        """Return the array."""
        return np.asarray(array)


def run_torch(job: Job) -> None:
    """Check PyTorch's streams."""
    check(job, Torch())


def run_cupy(job: Job) -> None:
    """Check CuPy's streams."""
    check(job, Cupy())


def run_numba(job: Job) -> None:
    """Check Numba's streams."""
    check(job, Numba())


def run_jax(job: Job) -> None:
    """Check arrays that JAX has not finished computing."""
    check(job, Jax(), streams=False)
