"""The GPU engine: a network of any library, its compute streams and its slots."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from typing import Any, Protocol

import numpy as np

from srsdk.engines.cuda.compute_streams import ComputeStream
from srsdk.engines.cuda.device import Device
from srsdk.engines.cuda.slot import CudaSlot, Run
from srsdk.engines.protocol import MAX_SLOTS_EACH, DeviceMemory, Signature
from srsdk.errors import BackendError, OutOfMemoryError

log = logging.getLogger("srsdk")

MIN_SLOTS = 2
"""Minimum slots of one shape: one is copied while the other computes."""


class Network(Protocol):
    """A model opened on one GPU with one library."""

    signature: Signature
    """Types and shapes of input and output."""
    capturable: bool
    """Whether srsdk may record its computation as a CUDA graph."""
    profiles: tuple[tuple[int, int, int], ...]
    """The input (batch, height, width) that it was built for; empty: any."""

    few_shapes: bool
    """Whether each new input shape is expensive, so that pictures of any size share a few."""

    def prepare(self, input_shape: tuple[int, ...], compute_stream: ComputeStream) -> Run:
        """Prepare the network for one input shape.

        What it enqueues on the compute stream, it enqueues while it holds the stream's lock.

        Raises:
            BackendError: the library refuses the shape.
        """

    def scratch_bytes(self, input_shape: tuple[int, ...]) -> int | None:
        """Return the scratch memory of one computation; None: unknown before the first run."""

    def settled(self) -> None:
        """Called after the first run of a new shape."""

    def close(self) -> None:
        """Release all resources."""


class CudaEngine:
    """An `Engine` for one network on one GPU.

    Args:
        backend: name of the backend.
        device: the GPU.
        network: the model; the engine owns and closes it.
        compute_streams: streams to compute on; one suffices for networks that fill the GPU.
        max_memory: device bytes that slots may use; None: no limit.
        graphs: record computations as CUDA graphs if the network allows it.
    """

    def __init__(
        self,
        backend: str,
        device: Device,
        network: Network,
        compute_streams: list[ComputeStream],
        *,
        graphs: bool,
        max_memory: int | None = None,
    ) -> None:
        self.backend = backend
        self.device = device.name
        self.gpu = device
        self.network = network
        self.signature: Signature = network.signature
        self.profiles = network.profiles
        self.few_shapes = network.few_shapes
        self._compute_streams = compute_streams
        self._graphs = graphs
        self._max_memory = max_memory
        self._turn = itertools.cycle(compute_streams)
        self._held: dict[object, int] = {}
        self._living = 0
        self._wanted: dict[tuple[int, ...], int] = {}
        self._closed = False
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def slot(self, input_shape: tuple[int, ...]) -> CudaSlot:
        """Make a slot: context, stream, memory, and a CUDA graph after one run.

        Raises:
            OutOfMemoryError: not enough memory; nothing stays allocated.
            BackendError: the library refuses the shape.
        """
        with self._lock:
            if self._closed:
                raise BackendError("this Upscaler is closed")
            self._living += 1
            compute_stream = next(self._turn)
        try:
            # one at a time, so that memory is compared with limits and measured undisturbed
            with self._making:
                made = self._make(compute_stream, input_shape)
                with self._lock:
                    self._held[made] = made.input_bytes + made.output_bytes
        except BaseException as error:
            self._forget()
            if isinstance(error, BackendError):
                self.gpu.raise_if_lost()
            raise
        made.on_close = lambda: self._forget(made)
        return made

    def _make(self, compute_stream: ComputeStream, input_shape: tuple[int, ...]) -> CudaSlot:
        capture = self._graphs and self.network.capturable
        with self.gpu.active():
            run = self.network.prepare(input_shape, compute_stream)
            dtype = self.signature.dtype
            item_bytes = np.dtype(dtype).itemsize
            slot_bytes = (math.prod(input_shape) + math.prod(run.output_shape)) * item_bytes
            try:
                self._check_limit(compute_stream, run, slot_bytes)
            except BaseException:
                run.close()
                raise
            made = CudaSlot(self.gpu, compute_stream, run, dtype, input_shape, capture=capture)
        try:
            if input_shape not in self._wanted:
                self._wanted[input_shape] = _slots_needed(*made.measure())
                log.info("%s: %d slots for %s", self.device, self._wanted[input_shape], input_shape)
                self.network.settled()
        except BaseException:
            made.close()
            raise
        return made

    def wanted_slots(self, input_shape: tuple[int, ...]) -> int:
        """Return how many slots keep the GPU busy, measured with the first slot of the shape."""
        wanted = self._wanted.get(input_shape, MIN_SLOTS)
        with self._lock:
            held = list(self._held.values())
        if self._max_memory is None or not held:
            return wanted
        # assumes slots of equal size; a slot that does not fit fails when it is made
        left = self._max_memory - self.held_bytes
        return min(wanted, len(held) + left // max(held))

    def device_memory(self, input_shape: tuple[int, ...]) -> DeviceMemory:
        """Return the free and the shared memory for slots of a shape."""
        shared = self.network.scratch_bytes(input_shape)
        with self.gpu.active():
            free, _ = self.gpu.memory()
        free += self.held_bytes
        limit = free if self._max_memory is None else min(free, self._max_memory)
        return DeviceMemory(limit, None if shared is None else shared * len(self._compute_streams))

    @property
    def held_bytes(self) -> int:
        """Device bytes that slots and compute streams hold now."""
        with self._lock:
            slots, compute_streams = list(self._held.values()), list(self._compute_streams)
        return sum(slots) + sum(one.held_bytes for one in compute_streams)

    def _check_limit(self, compute_stream: ComputeStream, run: Run, slot_bytes: int) -> None:
        """Check a slot's memory before it is allocated.

        The free memory is compared, too: on Windows an allocation beyond it does not fail, but
        moves somebody's memory to the host, and everything becomes slow.
        """
        need = slot_bytes + (0 if compute_stream.has(run.scratch_bytes) else run.scratch_bytes)
        # slots are rarely made: let them have what the pool of arrays keeps
        self.gpu.trim()
        free, _ = self.gpu.memory()
        if need > free:
            raise OutOfMemoryError(
                f"{self.device}: a slot needs {need:,} bytes on {self.device}, {free:,} are free"
            )
        if self._max_memory is None:
            return
        if self.held_bytes + need > self._max_memory:
            raise OutOfMemoryError(
                f"{self.device}: a slot needs {need:,} bytes, max_memory is {self._max_memory:,}, "
                f"{self.held_bytes:,} of them are in use"
            )

    def close(self) -> None:
        """Release all resources; safe to call again."""
        with self._lock:
            self._closed = True
        self._close_if_last()

    def _forget(self, slot: CudaSlot | None = None) -> None:
        with self._lock:
            self._living -= 1
            self._held.pop(slot, None)
        self._close_if_last()

    def _close_if_last(self) -> None:
        """Close network and compute streams once no slot is in use."""
        with self._lock:
            if not self._closed or self._living:
                return
            compute_streams, self._compute_streams = self._compute_streams, []
        if compute_streams:
            with self.gpu.releasing():
                self.network.close()
                self.gpu.trim()
        for compute_stream in compute_streams:
            compute_stream.close()


def is_out_of_memory(text: Any) -> bool:
    """Return whether a library's message reports that memory ran out."""
    message = str(text).lower()
    return any(
        word in message
        for word in ("out of memory", "failed to allocate memory", "outofmemory", "bad_alloc")
    )


def failure(text: str) -> BackendError:
    """Return the exception for a library's error message."""
    return OutOfMemoryError(text) if is_out_of_memory(text) else BackendError(text)


def _slots_needed(execute_ms: float, overhead_ms: float) -> int:
    """Return how many slots hide copies and host work behind other slots' computations."""
    if execute_ms <= 0:
        return MIN_SLOTS
    return min(MAX_SLOTS_EACH, max(MIN_SLOTS, 1 + math.ceil(overhead_ms / execute_ms)))
