"""Fake of `cuda.bindings.runtime`: real memory, streams that run late and in random order.

Enqueued work runs only when a random scheduler picks it or a caller synchronizes, and only in an
order that streams and events allow. A copy reads its source when it runs: a buffer that is written
too early gives a wrong picture, and an access to freed memory stops the test. A test checks every
name here against the real module.
"""

from __future__ import annotations

import ctypes
import enum
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt


class CudaError(enum.IntEnum):
    """The codes of `cudaError_t` that are used here."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidResourceHandle = 400
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureUnsupported = 900


@dataclass
class Op:
    """One operation on a stream."""

    run: Callable[[], None]
    ready: Callable[[], bool] = lambda: True
    name: str = ""


@dataclass
class Stream:
    """A queue of operations; during a capture they go to `captured` instead."""

    queue: deque[Op] = field(default_factory=deque)
    captured: list[Op] | None = None


@dataclass
class Event:
    """Number of records enqueued, and the newest one that has happened."""

    asked: int = 0
    happened: int = 0
    clock_ms: float = 0.0


class FakeRuntime:
    """A fake CUDA runtime; see the module docstring.

    Args:
        seed: seed of the scheduler.
        total_bytes: size of the device memory.
        devices: number of devices; 0: no driver.
        sm: GPU generation of all devices.
        fail: called with the name and count of every call; returns its error or None.
    """

    cudaStreamNonBlocking = 1
    cudaEventBlockingSync = 1
    cudaHostAllocPortable = 1
    cudaHostAllocWriteCombined = 4
    cudaMemcpyKind = enum.IntEnum(
        "cudaMemcpyKind",
        {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2, "cudaMemcpyDefault": 4},
    )
    cudaStreamCaptureMode = enum.IntEnum(
        "cudaStreamCaptureMode", {"cudaStreamCaptureModeThreadLocal": 1}
    )

    def __init__(
        self,
        seed: int = 0,
        *,
        total_bytes: int = 1 << 30,
        devices: int = 1,
        sm: int = 89,
        fail: Callable[[str, int], CudaError | None] = lambda _name, _count: None,
    ) -> None:
        self.random = random.Random(seed)
        self.total_bytes, self.devices, self.sm, self.fail = total_bytes, devices, sm, fail
        self.made: dict[str, int] = {}
        self.log: list[str] = []
        self.live: dict[int, Any] = {}
        self.kinds: dict[int, str] = {}
        self.streams: dict[int, Stream] = {0: Stream(), 1: Stream()}
        self.events: dict[int, Event] = {}
        self.graphs: dict[int, list[Op]] = {}
        self.used_bytes = 0
        self.clock_ms = 0.0
        self._handles = iter(range(1000, 10**9))
        self._here = threading.local()
        self._lock = threading.RLock()

    def leaks(self) -> list[str]:
        """Return the resources that were never released."""
        streams = [f"stream {h}" for h in self.streams if h > 1]
        events, graphs = map(str, self.events), map(str, self.graphs)
        memory = [f"{self.kinds[a]} memory" for a in self.live]
        return [*streams, *(f"event {e}" for e in events), *(f"graph {g}" for g in graphs), *memory]

    def push(self, stream: int, op: Op) -> None:
        """Enqueue an op like a kernel; during a capture it becomes part of the graph."""
        with self._lock:
            one = self.streams[stream]
            (one.queue if one.captured is None else one.captured).append(op)
            self._advance()

    def array(self, address: int, size_bytes: int) -> npt.NDArray[np.uint8]:
        """Return allocated memory as bytes; any other address stops the test."""
        for start, memory in self.live.items():
            if start <= address and address + size_bytes <= start + len(memory):
                raw = (ctypes.c_uint8 * size_bytes).from_address(address)
                return np.ctypeslib.as_array(raw)
        raise AssertionError(f"{size_bytes} bytes at {address:#x} are not allocated")

    # -- devices

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        error = CudaError.cudaErrorInsufficientDriver if not self.devices else None
        return self._answer("cudaGetDeviceCount", self.devices or None, error=error)

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return CudaError.cudaSuccess, 13000 if self.devices else 0

    def cudaRuntimeGetVersion(self) -> tuple[Any, ...]:
        return CudaError.cudaSuccess, 13050

    def cudaGetDeviceProperties(self, index: int) -> tuple[Any, ...]:
        found = SimpleNamespace(
            name=f"Fake GPU {index}".encode(),
            major=self.sm // 10,
            minor=self.sm % 10,
            totalGlobalMem=self.total_bytes,
        )
        return self._answer("cudaGetDeviceProperties", found)

    def cudaGetDevice(self) -> tuple[Any, ...]:
        return CudaError.cudaSuccess, getattr(self._here, "index", 0)

    def cudaSetDevice(self, index: int) -> tuple[Any, ...]:
        self._here.index = index
        return (CudaError.cudaSuccess,)

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return self._answer("cudaMemGetInfo", self.total_bytes - self.used_bytes, self.total_bytes)

    def cudaGetLastError(self) -> tuple[Any, ...]:
        return (CudaError.cudaSuccess,)

    def cudaGetErrorString(self, error: Any) -> tuple[Any, ...]:
        return CudaError.cudaSuccess, f"what {error.name} means".encode()

    # -- memory

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        with self._lock:
            if self.used_bytes + size > self.total_bytes:
                return self._answer("cudaMalloc", None, error=CudaError.cudaErrorMemoryAllocation)
            return self._allocated("cudaMalloc", "device", size)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        kind = "write-combined" if flags & self.cudaHostAllocWriteCombined else "pinned"
        with self._lock:
            return self._allocated("cudaHostAlloc", kind, size)

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        return self._freed("cudaFree", address)

    def cudaFreeHost(self, address: int) -> tuple[Any, ...]:
        return self._freed("cudaFreeHost", address)

    def cudaMemcpyAsync(
        self, target: int, source: int, size: int, kind: Any, stream: int
    ) -> tuple[Any, ...]:
        def copy() -> None:
            self.array(target, size)[:] = self.array(source, size)

        return self._enqueued("cudaMemcpyAsync", stream, Op(copy, name=kind.name))

    def cudaMemcpy2DAsync(
        self, target: int, target_pitch: int, source: int, source_pitch: int,
        width: int, rows: int, kind: Any, stream: int,
    ) -> tuple[Any, ...]:  # fmt: skip
        assert target_pitch >= width, "the pitch is below the width"
        assert source_pitch >= width, "the pitch is below the width"

        def copy() -> None:
            for row in range(rows):
                line = self.array(source + row * source_pitch, width)
                self.array(target + row * target_pitch, width)[:] = line

        return self._enqueued("cudaMemcpy2DAsync", stream, Op(copy, name=kind.name))

    def cudaMemsetAsync(self, target: int, value: int, size: int, stream: int) -> tuple[Any, ...]:
        def fill() -> None:
            self.array(target, size)[:] = value

        return self._enqueued("cudaMemsetAsync", stream, Op(fill, name="memset"))

    # -- streams and events

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == self.cudaStreamNonBlocking
        return self._created("cudaStreamCreateWithFlags", self.streams, Stream())

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        with self._lock:
            self._run_until(lambda: not self.streams[stream].queue)
            del self.streams[stream]
            return self._answer("cudaStreamDestroy")

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        with self._lock:
            if self.streams[stream].captured is not None:
                error = CudaError.cudaErrorStreamCaptureUnsupported
                return self._answer("cudaStreamSynchronize", error=error)
            self._run_until(lambda: not self.streams[stream].queue)
            return self._answer("cudaStreamSynchronize")

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[Any, ...]:
        one = self.events[event]
        wanted = one.asked
        op = Op(lambda: None, lambda: one.happened >= wanted, "wait")
        return self._enqueued("cudaStreamWaitEvent", stream, op)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        return self._created("cudaEventCreateWithFlags", self.events, Event())

    def cudaEventDestroy(self, event: int) -> tuple[Any, ...]:
        del self.events[event]
        return self._answer("cudaEventDestroy")

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Any, ...]:
        one = self.events[event]
        one.asked += 1
        number = one.asked

        def happen() -> None:
            one.happened, one.clock_ms = max(one.happened, number), self.clock_ms

        answer = self._enqueued("cudaEventRecord", stream, Op(happen, name="record"))
        if answer[0]:
            one.asked -= 1
        return answer

    def cudaEventSynchronize(self, event: int) -> tuple[Any, ...]:
        with self._lock:
            one = self.events[event]
            self._run_until(lambda: one.happened >= one.asked)
            return self._answer("cudaEventSynchronize")

    def cudaEventElapsedTime(self, start: int, end: int) -> tuple[Any, ...]:
        spent = self.events[end].clock_ms - self.events[start].clock_ms
        return self._answer("cudaEventElapsedTime", spent)

    # -- graphs

    def cudaStreamBeginCapture(self, stream: int, mode: Any) -> tuple[Any, ...]:
        answer = self._answer("cudaStreamBeginCapture")
        if not answer[0]:
            self.streams[stream].captured = []
        return answer

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        ops, self.streams[stream].captured = self.streams[stream].captured, None
        assert ops is not None
        return self._created("cudaStreamEndCapture", self.graphs, ops)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        return self._created("cudaGraphInstantiate", self.graphs, self.graphs[graph])

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        del self.graphs[graph]
        return self._answer("cudaGraphDestroy")

    def cudaGraphExecDestroy(self, graph: int) -> tuple[Any, ...]:
        del self.graphs[graph]
        return self._answer("cudaGraphExecDestroy")

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[Any, ...]:
        answer = self._answer("cudaGraphLaunch")
        if not answer[0]:
            for op in self.graphs[graph]:
                self.push(stream, op)
        return answer

    # -- below the interface

    def _answer(self, name: str, *values: Any, error: CudaError | None = None) -> tuple[Any, ...]:
        with self._lock:
            self.made[name] = self.made.get(name, 0) + 1
            self.log.append(name)
            # releasing does not fail on a working device, and the tests count leaks
            releases = "Destroy" in name or "Free" in name
            found = error or (None if releases else self.fail(name, self.made[name]))
            if found:
                return found, *(None for _ in values)
            self._advance()
            return CudaError.cudaSuccess, *values

    def _allocated(self, name: str, kind: str, size: int) -> tuple[Any, ...]:
        memory = (ctypes.c_uint8 * size)()
        np.ctypeslib.as_array(memory)[:] = 0xA5
        address = ctypes.addressof(memory)
        answer = self._answer(name, address)
        if not answer[0]:
            self.live[address], self.kinds[address] = memory, kind
            self.used_bytes += size if kind == "device" else 0
        return answer

    def _freed(self, name: str, address: int) -> tuple[Any, ...]:
        with self._lock:
            # like the real call, it waits for the whole device
            self._run_until(lambda: not any(s.queue for s in self.streams.values()))
            memory = self.live.pop(address)
            self.used_bytes -= len(memory) if self.kinds.pop(address) == "device" else 0
            return self._answer(name)

    def _created(self, name: str, where: dict[int, Any], thing: Any) -> tuple[Any, ...]:
        with self._lock:
            handle = next(self._handles)
            answer = self._answer(name, handle)
            if not answer[0]:
                where[handle] = thing
            return answer

    def _enqueued(self, name: str, stream: int, op: Op) -> tuple[Any, ...]:
        with self._lock:
            answer = self._answer(name)
            if not answer[0]:
                self.push(stream, op)
            return answer

    def _advance(self) -> None:
        for _ in range(self.random.choice((0, 0, 0, 1, 2, 5))):
            self._step()

    def _step(self) -> bool:
        able = [s for s in self.streams.values() if s.queue and s.queue[0].ready()]
        if not able:
            return False
        self.clock_ms += 1
        self.random.choice(able).queue.popleft().run()
        return True

    def _run_until(self, done: Callable[[], bool]) -> None:
        while not done():
            assert self._step(), "deadlock: no operation is ready to run"
