"""GPU slots: pinned and device memory, a stream, events and a CUDA graph for one input shape.

A slot copies on its own stream and computes on a shared compute stream, so that the copies of
neighboring tiles overlap with the computation.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from srsdk.engines.cuda.compute_streams import ComputeStream, release_all
from srsdk.engines.cuda.device import Device, Owned, view
from srsdk.errors import BackendError, OutOfMemoryError, SrsdkError

log = logging.getLogger("srsdk")

MEASURED_RUNS = 5
"""Runs of a new shape whose median sets the number of slots."""

Times = dict[str, float]
"""Milliseconds by step: `h2d`, `execute`, `d2h`."""


class Run(Protocol):
    """A network prepared for one input shape."""

    output_shape: tuple[int, ...]
    """Shape of the output, batch first."""
    scratch_bytes: int
    """Device memory that it needs while computing."""

    def bind(self, input_address: int, output_address: int, scratch_address: int) -> None:
        """Fix the device addresses."""

    def enqueue(self, stream: int) -> None:
        """Enqueue the computation and return at once.

        Raises:
            BackendError: the library failed.
        """

    def close(self) -> None:
        """Release all resources."""


class CudaSlot:
    """Buffers, stream, events and CUDA graph to run a network for one input shape.

    Args:
        device: the GPU.
        compute_stream: the stream to compute on.
        run: the network prepared for this shape; the slot owns and closes it.
        dtype: type of input and output.
        input_shape: shape of the input, batch first.
        capture: record the computation as a CUDA graph after the first run.

    Raises:
        OutOfMemoryError: not enough device or host memory; nothing stays allocated.
    """

    def __init__(
        self,
        device: Device,
        compute_stream: ComputeStream,
        run: Run,
        dtype: str,
        input_shape: tuple[int, ...],
        *,
        capture: bool,
    ) -> None:
        self._device, self._compute_stream, self._run = device, compute_stream, run
        self._graph: Owned | None = None
        self._owned: list[Owned] = []
        self._closed = False
        self.on_close: Callable[[], None] = lambda: None
        """Called once, after the slot has released everything."""
        self.timed = False
        """Record the events that `times` reads; costs a few microseconds."""
        item_bytes = np.dtype(dtype).itemsize
        self.input_bytes = math.prod(input_shape) * item_bytes
        self.output_bytes = math.prod(run.output_shape) * item_bytes
        self._clocks: dict[str, int] = {}
        try:
            self._allocate(dtype, input_shape)
            self._warm_up(capture)
        except BaseException:
            self.close()
            raise

    def _allocate(self, dtype: str, input_shape: tuple[int, ...]) -> None:
        device = self._device
        with device.active():
            # the allocations that are most likely to fail come first
            self._device_output = self._own(device.allocate(self.output_bytes))
            self._device_input = self._own(device.allocate(self.input_bytes))
            host_input = self._own(device.pinned(self.input_bytes, write_combined=True))
            host_output = self._own(device.pinned(self.output_bytes))
            self._stream = self._own(device.stream())
            names = ("ready", "executed", "finished")
            self._events = {name: self._own(device.event()).handle for name in names}
        self.input: npt.NDArray[Any] = view(host_input, input_shape, dtype)
        self._output: npt.NDArray[Any] = view(host_output, self._run.output_shape, dtype)
        self._host = (host_input.handle, host_output.handle)
        scratch = self._compute_stream.share(self._run.scratch_bytes, self)
        self._run.bind(self._device_input.handle, self._device_output.handle, scratch)

    def _own(self, resource: Owned) -> Owned:
        self._owned.append(resource)
        return resource

    def _warm_up(self, capture: bool) -> None:
        """Run once without a graph, which libraries need before a capture, then capture."""
        device, compute_stream = self._device, self._compute_stream
        self.input[...] = 0
        self.submit()
        self.wait()
        if not capture:
            return
        with compute_stream.lock, device.active():
            stream = compute_stream.stream.handle
            try:
                self._graph = device.capture(stream, lambda: self._run.enqueue(stream))
            except OutOfMemoryError:
                raise
            except BackendError as error:
                log.warning("no CUDA graph for %s: %s; running without", self.input.shape, error)

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """The numbers beside the picture, of a model that takes some; read at `submit`."""
        values: npt.NDArray[np.float32] | None = getattr(self._run, "values", None)
        if values is None:
            raise BackendError("this engine takes no numbers beside the picture")
        return values

    @property
    def has_graph(self) -> bool:
        """Whether the computation is launched as a CUDA graph."""
        return self._graph is not None

    def submit(self) -> None:
        """Enqueue copy in, computation and copy out, and return at once."""
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
        """Enqueue `fill(stream)`, which writes the input, the computation, and `drain(stream)`.

        `fill` writes to `addresses[0]`, `drain` reads from `addresses[1]`.

        Raises:
            BackendError: closed, or CUDA failed; nothing is in flight then.
            DeviceLostError: nothing works on this GPU in this process any more.
        """
        if self._closed:
            raise BackendError("this Upscaler is closed")
        device = self._device
        with device.active():
            try:
                self._enqueue(fill, drain)
            except BaseException as error:
                self._synchronize()
                if isinstance(error, BackendError):
                    # a library reports its own failure first
                    device.raise_if_lost()
                raise

    def _enqueue(self, fill: Callable[[int], None], drain: Callable[[int], None]) -> None:
        device, compute_stream, events = self._device, self._compute_stream, self._events
        stream, compute = self._stream.handle, compute_stream.stream.handle
        self._clock("began", stream)
        fill(stream)
        self._clock("filled", stream)
        device.record(events["ready"], stream)
        with compute_stream.lock:
            device.order(compute, events["ready"])
            self._clock("started", compute)
            self._compute(compute)
            self._clock("computed", compute)
            device.record(events["executed"], compute)
        device.order(stream, events["executed"])
        self._clock("draining", stream)
        drain(stream)
        self._clock("drained", stream)
        device.record(events["finished"], stream)

    def _clock(self, name: str, stream: int) -> None:
        """Record the time, if `timed`; the events for that are made when they are first needed."""
        if not self.timed:
            return
        if name not in self._clocks:
            self._clocks[name] = self._own(self._device.event(timed=True)).handle
        self._device.record(self._clocks[name], stream)

    @property
    def addresses(self) -> tuple[int, int]:
        """Device addresses of input and output."""
        return self._device_input.handle, self._device_output.handle

    @property
    def stream(self) -> int:
        """Handle of the stream on which `fill` and `drain` are enqueued."""
        return self._stream.handle

    @property
    def finished(self) -> int:
        """Handle of the event after the last `drain`."""
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
        """Return the times of the last run; requires `timed` to have been set before it."""
        device, clocks = self._device, self._clocks
        steps = {"h2d": ("began", "filled"), "execute": ("started", "computed")}
        steps["d2h"] = ("draining", "drained")
        with device.active():
            return {
                name: device.elapsed_ms(clocks[start], clocks[end])
                for name, (start, end) in steps.items()
            }

    def measure(self, rounds: int = MEASURED_RUNS) -> tuple[float, float]:
        """Return the milliseconds of one computation, and of copies and host work together.

        They are medians after one run that is not counted: the first runs of a shape may compile
        and choose kernels.
        """
        was, self.timed = self.timed, True
        try:
            found = [self._measure_once() for _ in range(1 + rounds)][1:]
        finally:
            self.timed = was
        return median(one[0] for one in found), median(one[1] for one in found)

    def _measure_once(self) -> tuple[float, float]:
        self.submit()
        self.wait()
        began = time.perf_counter()
        self.input[...] = 0
        self._output.copy()
        host_ms = 1000 * (time.perf_counter() - began)
        times = self.times()
        return times["execute"], times["h2d"] + times["d2h"] + host_ms

    def close(self) -> None:
        """Release all resources; safe to call again."""
        if self._closed:
            return
        self._closed = True
        if self._owned:
            self._synchronize()
        with self._device.releasing():
            # the graph calls kernels of the library's context, which goes after it
            release_all([self._graph] if self._graph else [])
            self._run.close()
            release_all(reversed(self._owned))
        self._compute_stream.leave(self)
        self.on_close()

    def _synchronize(self) -> None:
        # errors are ignored: the first failure is reported, or the memory is about to be freed
        with suppress(SrsdkError), self._device.active():
            if hasattr(self, "_stream"):
                self._device.drain(self._stream.handle)
            # synchronizing a stream while another slot captures it would invalidate the capture
            with self._compute_stream.lock:
                self._device.drain(self._compute_stream.stream.handle)
