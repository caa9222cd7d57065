"""The simulated driver is strict: it refuses, delays and breaks what CUDA does.

The rules are those of the CUDA driver API's documentation: streams, events, stream capture, memory.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver

from srsdk.engines.cuda.device import Device, view
from tests.simulators.cuda import ILLEGAL_ADDRESS, Simulator

cuda: Any = driver
GLOBAL, THREAD_LOCAL, RELAXED = (cuda.CUstreamCaptureMode(mode) for mode in range(3))


@pytest.fixture
def device(gpu: Simulator) -> Iterator[Device]:
    """The GPU, current in this thread."""
    made = Device(0)
    with made.active():
        yield made


def code(answer: tuple[Any, ...]) -> int:
    """Return the error code of a call."""
    return int(answer[0])


def died(work: Callable[[], object]) -> int:
    """Run something in a child and return the signal that ended it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the parent has threads
        child = os.fork()
    if child == 0:
        faulthandler.disable()
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def test_the_host_cannot_touch_device_memory(device: Device) -> None:
    """Reading through a device pointer ends the process."""
    memory = device.allocate(64)
    assert died(lambda: ctypes.string_at(memory.handle, 1)) == signal.SIGSEGV
    memory.close()


def test_the_host_cannot_touch_freed_pinned_memory(device: Device) -> None:
    """A view of pinned memory that was freed ends the process."""
    pinned = device.pinned(4096)
    content = view(pinned, (4096,), "uint8")
    pinned.close()
    assert died(lambda: content.sum()) == signal.SIGSEGV


def test_memory_is_poisoned(gpu: Simulator, device: Device) -> None:
    """New memory is not zero, and neither is pinned memory."""
    memory, pinned = device.allocate(64), device.pinned(64)
    assert gpu.content(memory.handle, 64).all()
    assert view(pinned, (64,), "uint8").all()
    memory.close()
    pinned.close()


def test_use_after_free_is_sticky(gpu: Simulator, device: Device) -> None:
    """A kernel that reads freed memory makes the context useless, and is recorded."""
    stream, memory, other = device.stream(), device.allocate(64), device.allocate(64)
    address = memory.handle
    memory.close()
    assert gpu.stage(stream.handle, address, other.handle, 64) == 0, "the launch itself succeeds"
    assert code(cuda.cuStreamSynchronize(stream.handle)) == ILLEGAL_ADDRESS
    assert code(cuda.cuMemAlloc(16)) == ILLEGAL_ADDRESS
    assert code(cuda.cuMemFree(other.handle)) == ILLEGAL_ADDRESS
    assert gpu.violations() == ["a kernel touched memory that is not allocated"]
    gpu.reset()


def test_double_releases_are_recorded(gpu: Simulator, device: Device) -> None:
    """Memory, streams and events are released once."""
    memory, stream, event = device.allocate(64), device.stream(), device.event()
    for one, release in (
        (memory, cuda.cuMemFree), (stream, cuda.cuStreamDestroy), (event, cuda.cuEventDestroy),
    ):  # fmt: skip
        one.close()
        assert code(release(one.handle)) != 0
    assert len(gpu.violations()) == 3
    gpu.reset()


def test_pinned_copies_are_asynchronous_and_pageable_ones_are_not(
    gpu: Simulator, device: Device
) -> None:
    """A pinned source is read when the copy runs, a pageable one when it is enqueued."""
    stream, memory = device.stream(), device.allocate(1000)
    pinned, back = device.pinned(1000), device.pinned(1000)
    source, result = view(pinned, (1000,), "uint8"), view(back, (1000,), "uint8")
    gate = _hold(gpu, stream.handle)
    source[...] = 1
    device.copy_in(memory.handle, pinned.handle, 1000, stream.handle)
    source[...] = 2
    device.copy_out(back.handle, memory.handle, 1000, stream.handle)
    gate()
    device.drain(stream.handle)
    assert set(result) == {2}
    pageable = np.full(1000, 3, np.uint8)
    gate = _hold(gpu, stream.handle)
    device.copy_in(memory.handle, pageable.ctypes.data, 1000, stream.handle)
    pageable[...] = 4
    gate()
    target = np.zeros(1000, np.uint8)
    device.copy_out(target.ctypes.data, memory.handle, 1000, stream.handle)
    assert set(target) == {3}, "the copy to pageable memory waits"
    for one in (memory, pinned, back, stream):
        one.close()


def _hold(gpu: Simulator, stream: int) -> Callable[[], None]:
    """Stop a stream until the returned function is called."""
    import threading

    gate = threading.Event()
    assert gpu.kernel(stream, lambda: gate.wait(30)) == 0
    return gate.set


def test_streams_wait_for_nothing_but_events(gpu: Simulator, device: Device) -> None:
    """Work on another stream runs meanwhile; the legacy stream waits for blocking ones only."""
    order: list[str] = []
    first, second = device.stream(), device.stream()
    blocking = int(cuda.cuStreamCreate(0)[1])
    gate = _hold(gpu, first.handle)
    gpu.kernel(first.handle, lambda: order.append("first"))
    gpu.kernel(second.handle, lambda: order.append("second"))
    device.drain(second.handle)
    gpu.kernel(1, lambda: order.append("default"))
    device.drain(1)
    assert order == ["second", "default"], "non-blocking streams are on their own"
    gate()
    device.drain(first.handle)
    gate = _hold(gpu, blocking)
    gpu.kernel(1, lambda: order.append("after blocking"))
    assert int(cuda.cuStreamQuery(1)[0]) == 600, "not ready"
    gate()
    device.drain(1)
    assert order[2:] == ["first", "after blocking"]
    cuda.cuStreamDestroy(blocking)
    for one in (first, second):
        one.close()


def test_what_a_capture_refuses(gpu: Simulator, device: Device) -> None:
    """Allocation, synchronization and events from outside invalidate it, as documented."""
    stream, event = device.stream(), device.event()
    device.record(event.handle, stream.handle)
    device.drain(stream.handle)
    calls: list[tuple[Callable[[], Any], int]] = [
        (lambda: cuda.cuMemAlloc(16), 900),
        (lambda: cuda.cuCtxSynchronize(), 900),
        (lambda: cuda.cuStreamSynchronize(stream.handle), 900),
        (lambda: cuda.cuStreamQuery(stream.handle), 900),
        (lambda: cuda.cuStreamWaitEvent(stream.handle, event.handle, 0), 905),
    ]
    for call, expected in calls:
        assert code(cuda.cuStreamBeginCapture(stream.handle, THREAD_LOCAL)) == 0
        assert code(call()) == expected
        assert int(cuda.cuStreamIsCapturing(stream.handle)[1]) == 2, "invalidated"
        assert code(cuda.cuStreamEndCapture(stream.handle)) == 901
    assert code(cuda.cuStreamBeginCapture(1, THREAD_LOCAL)) == 900, "the legacy stream"
    for one in (stream, event):
        one.close()


def test_captures_of_other_threads(gpu: Simulator, device: Device) -> None:
    """A global capture refuses allocations of every thread, a thread-local one of its own only."""
    import threading

    stream = device.stream()
    found: list[int] = []

    def allocate() -> None:
        with device.active():
            answer = cuda.cuMemAlloc(16)
            found.append(code(answer))
            if not found[-1]:
                cuda.cuMemFree(answer[1])
            relaxed = cuda.cuThreadExchangeStreamCaptureMode(RELAXED)
            assert code(relaxed) == 0
            device.allocate(16).close()

    for mode in (THREAD_LOCAL, GLOBAL):
        cuda.cuStreamBeginCapture(stream.handle, mode)
        thread = threading.Thread(target=allocate)
        thread.start()
        thread.join()
        error, graph = cuda.cuStreamEndCapture(stream.handle)
        if not int(error):
            cuda.cuGraphDestroy(graph)
    assert found == [0, 900]
    stream.close()


def test_a_graph_repeats_what_was_captured(gpu: Simulator, device: Device) -> None:
    """Nothing runs during the capture, everything at each launch."""
    stream = device.stream()
    ran: list[int] = []

    def work() -> None:
        assert gpu.kernel(stream.handle, lambda: ran.append(1)) == 0

    graph = device.capture(stream.handle, work)
    device.drain(stream.handle)
    assert ran == []
    for _ in range(3):
        device.launch(graph.handle, stream.handle)
    device.drain(stream.handle)
    assert ran == [1, 1, 1]
    graph.close()
    stream.close()


def test_a_host_function_may_not_call_cuda(gpu: Simulator, device: Device) -> None:
    """Any call within it is refused."""
    stream = device.stream()
    found: list[int] = []
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    call = kind(lambda _: found.append(code(cuda.cuMemAlloc(16))))
    address = ctypes.cast(call, ctypes.c_void_p).value
    assert code(cuda.cuLaunchHostFunc(stream.handle, cuda.CUhostFn(address), 0)) == 0
    device.drain(stream.handle)
    assert found == [800]
    stream.close()


def test_memory_ends(gpu: Simulator, device: Device) -> None:
    """The simulated GPU has as much memory as it says."""
    gpu.reset(total_bytes=1000)
    memory = device.allocate(600)
    assert device.memory() == (400, 1000)
    assert code(cuda.cuMemAlloc(401)) == 2
    device.allocate(400).close()
    memory.close()


def test_handles_belong_to_a_context(gpu: Simulator, device: Device) -> None:
    """Streams and memory of the primary context cannot be used in another one."""
    from tests.simulated.test_errors import new_context

    stream, memory, other = device.stream(), device.allocate(16), device.allocate(16)
    mine = new_context()
    assert code(cuda.cuStreamSynchronize(stream.handle)) == 400
    assert code(cuda.cuMemcpyDtoD(memory.handle, other.handle, 16)) == 1
    cuda.cuCtxDestroy(mine)
    for one in (stream, memory, other):
        one.close()


def test_without_a_context_nothing_works(gpu: Simulator) -> None:
    """A thread that made none current gets an error."""
    Device(0)
    assert code(cuda.cuMemAlloc(16)) == 201
