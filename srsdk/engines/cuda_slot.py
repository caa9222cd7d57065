"""Slots on a GPU: pinned and device memory, a stream, events, a graph.

A slot copies on a stream of its own and computes on the stream of its lane, so that the copies of
neighbouring tiles overlap with the computation.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from srsdk.engines.cuda import Device, Owned, view
from srsdk.engines.lanes import Lane, give_back
from srsdk.errors import BackendError, OutOfMemoryError, SrsdkError

log = logging.getLogger("srsdk")

Times = dict[str, float]
"""Milliseconds by step: `h2d`, `execute`, `d2h`."""


class Run(Protocol):
    """One network, made ready for one input shape."""

    output_shape: tuple[int, ...]
    """Of the output, batch first."""
    scratch_bytes: int
    """Device memory that it needs while it computes."""

    def bind(self, input_address: int, output_address: int, scratch_address: int) -> None:
        """Fix the device addresses."""

    def enqueue(self, stream: int) -> None:
        """Enqueue the computation; returns at once.

        Raises:
            BackendError: the library refused.
        """

    def close(self) -> None:
        """Give everything back."""


class CudaSlot:
    """One lane through a network: pinned memory, device memory, a stream, events, a graph.

    Args:
        device: the GPU.
        lane: where it computes.
        run: the network for its shape; belongs to the slot from now on.
        dtype: of input and output.
        input_shape: batch first.
        capture: record the computation as a CUDA graph after the first run.

    Raises:
        OutOfMemoryError: the device or the host has not enough memory; nothing stays allocated.
    """

    def __init__(
        self,
        device: Device,
        lane: Lane,
        run: Run,
        dtype: str,
        input_shape: tuple[int, ...],
        *,
        capture: bool,
    ) -> None:
        self._device, self._lane, self._run = device, lane, run
        self._graph: Owned | None = None
        self._owned: list[Owned] = []
        self._closed = False
        self.on_close: Callable[[], None] = lambda: None
        """Called once, after the slot has given everything back."""
        self.timed = False
        """Note the events that `times` reads; costs some microseconds."""
        item_bytes = np.dtype(dtype).itemsize
        self.input_bytes = math.prod(input_shape) * item_bytes
        self.output_bytes = math.prod(run.output_shape) * item_bytes
        try:
            self._allocate(dtype, input_shape)
            self._warm_up(capture)
        except BaseException:
            self.close()
            raise

    def _allocate(self, dtype: str, input_shape: tuple[int, ...]) -> None:
        device = self._device
        with device.active():
            # in this order: what is most likely to fail comes first
            self._device_output = self._own(device.allocate(self.output_bytes))
            self._device_input = self._own(device.allocate(self.input_bytes))
            host_input = self._own(device.pinned(self.input_bytes, write_combined=True))
            host_output = self._own(device.pinned(self.output_bytes))
            self._stream = self._own(device.stream())
            names = ("began", "ready", "started", "executed", "finished")
            self._events = {name: self._own(device.event()).handle for name in names}
        self.input: npt.NDArray[Any] = view(host_input, input_shape, dtype)
        self._output: npt.NDArray[Any] = view(host_output, self._run.output_shape, dtype)
        self._host = (host_input.handle, host_output.handle)
        scratch = self._lane.share(self._run.scratch_bytes, self)
        self._run.bind(self._device_input.handle, self._device_output.handle, scratch)

    def _own(self, resource: Owned) -> Owned:
        self._owned.append(resource)
        return resource

    def _warm_up(self, capture: bool) -> None:
        """Run once as it is, which libraries need before a capture, then record."""
        device, lane = self._device, self._lane
        self.input[...] = 0
        self.submit()
        self.wait()
        if not capture:
            return
        with lane.lock, device.active():
            stream = lane.stream.handle
            try:
                self._graph = device.capture(stream, lambda: self._run.enqueue(stream))
            except OutOfMemoryError:
                raise
            except BackendError as error:
                log.warning("no CUDA graph for %s: %s; it runs without", self.input.shape, error)

    @property
    def has_graph(self) -> bool:
        """Whether the computation is launched as one graph."""
        return self._graph is not None

    def submit(self) -> None:
        """Copy in, compute, copy out; returns at once."""
        device, (host_input, host_output) = self._device, self._host
        self.enqueue(
            lambda stream: device.copy_in(
                self._device_input.handle, host_input, self.input_bytes, stream
            ),
            lambda stream: device.copy_out(
                host_output, self._device_output.handle, self.output_bytes, stream
            ),
        )

    def enqueue(self, fill: Callable[[int], None], drain: Callable[[int], None]) -> None:
        """Let `fill(stream)` write `addresses[0]`, compute, let `drain(stream)` read the other.

        Raises:
            BackendError: closed, or CUDA failed; nothing is in flight then.
        """
        if self._closed:
            raise BackendError("this Upscaler is closed")
        device, lane, events = self._device, self._lane, self._events
        stream, compute = self._stream.handle, lane.stream.handle
        with device.active():
            try:
                if self.timed:
                    device.record(events["began"], stream)
                fill(stream)
                device.record(events["ready"], stream)
                with lane.lock:
                    device.order(compute, events["ready"])
                    if self.timed:
                        device.record(events["started"], compute)
                    self._compute(compute)
                    device.record(events["executed"], compute)
                device.order(stream, events["executed"])
                drain(stream)
                device.record(events["finished"], stream)
            except BaseException:
                self._rest()
                raise

    @property
    def addresses(self) -> tuple[int, int]:
        """Device addresses of input and output."""
        return self._device_input.handle, self._device_output.handle

    @property
    def stream(self) -> int:
        """The stream on which `fill` and `drain` are enqueued."""
        return self._stream.handle

    @property
    def finished(self) -> int:
        """The event after the last `drain`."""
        return self._events["finished"]

    def _compute(self, stream: int) -> None:
        if self._graph is None:
            self._run.enqueue(stream)
        else:
            self._device.launch(self._graph.handle, stream)

    def wait(self) -> npt.NDArray[Any]:
        """Wait for the output."""
        with self._device.active():
            self._device.wait(self._events["finished"])
        return self._output

    def times(self) -> Times:
        """Return the steps of the last run; only where `timed` was set before it."""
        device, events = self._device, self._events
        steps = {"h2d": ("began", "ready"), "execute": ("started", "executed")}
        steps["d2h"] = ("executed", "finished")
        with device.active():
            return {
                name: device.elapsed_ms(events[start], events[end])
                for name, (start, end) in steps.items()
            }

    def measure(self) -> tuple[float, float]:
        """Return milliseconds of one computation and of everything around it."""
        was, self.timed = self.timed, True
        self.submit()
        self.wait()
        self.timed = was
        began = time.perf_counter()
        self.input[...] = 0
        self._output.copy()
        host_ms = 1000 * (time.perf_counter() - began)
        times = self.times()
        return times["execute"], times["h2d"] + times["d2h"] + host_ms

    def close(self) -> None:
        """Give everything back; harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        if self._owned:
            self._rest()
        self._run.close()
        self._lane.leave(self)
        with self._device.active():
            give_back([*([self._graph] if self._graph else []), *reversed(self._owned)])
        self.on_close()

    def _rest(self) -> None:
        # after a failure, which is the one to report, or before memory goes
        with suppress(SrsdkError), self._device.active():
            if hasattr(self, "_stream"):
                self._device.drain(self._stream.handle)
            # waiting for a stream that another slot is just recording would spoil the recording
            with self._lane.lock:
                self._device.drain(self._lane.stream.handle)
