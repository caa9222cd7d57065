"""An engine on a GPU: a network of any library, its lanes and its slots."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from typing import Any, Protocol

import numpy as np

from srsdk.engines import MAX_SLOTS_EACH, DeviceMemory, Signature
from srsdk.engines.cuda import Device
from srsdk.engines.cuda_slot import CudaSlot, Run
from srsdk.engines.lanes import Lane
from srsdk.errors import BackendError, OutOfMemoryError

log = logging.getLogger("srsdk")

MIN_SLOTS = 2
"""Of one shape: one is copied while the other computes."""


class Network(Protocol):
    """A model opened by one library on one GPU."""

    signature: Signature
    """What the graph says of its input and output."""
    capturable: bool
    """Whether its computation may be recorded as a CUDA graph by us."""
    profiles: tuple[tuple[int, int, int], ...]
    """The (batch, height, width) that it was made for; empty: any."""

    def prepare(self, input_shape: tuple[int, ...], stream: int) -> Run:
        """Make it ready for one shape.

        Raises:
            BackendError: the library refuses the shape.
        """

    def scratch_bytes(self, input_shape: tuple[int, ...]) -> int | None:
        """Return the device memory that one computation needs; None: not known before it ran."""

    def settled(self) -> None:
        """Hear that a shape has run for the first time."""

    def close(self) -> None:
        """Give everything back."""


class CudaEngine:
    """Slots of one network on one GPU; an `Engine`.

    Args:
        backend: the library's name.
        device: the GPU.
        network: the model; belongs to the engine from now on.
        lanes: where it computes; one is right for networks that fill the GPU.
        max_memory: device bytes that slots may use, or None.
        graphs: record computations as CUDA graphs where the network can be recorded.
    """

    def __init__(
        self, backend: str, device: Device, network: Network, lanes: list[Lane], *,
        graphs: bool, max_memory: int | None = None,
    ) -> None:  # fmt: skip
        self.backend = backend
        self.device = device.name
        self.gpu = device
        self.network = network
        self.signature: Signature = network.signature
        self.profiles = network.profiles
        self._lanes = lanes
        self._graphs = graphs
        self._max_memory = max_memory
        self._turn = itertools.cycle(lanes)
        self._held: dict[object, int] = {}
        self._living = 0
        self._wanted: dict[tuple[int, ...], int] = {}
        self._closed = False
        self._lock = threading.Lock()

    def slot(self, input_shape: tuple[int, ...]) -> CudaSlot:
        """Make a slot: context, stream, memory, and a graph after one run.

        Raises:
            OutOfMemoryError: there is not enough memory; nothing stays allocated.
            BackendError: the library refuses the shape.
        """
        with self._lock:
            if self._closed:
                raise BackendError("this Upscaler is closed")
            self._living += 1
            lane = next(self._turn)
        try:
            made = self._make(lane, input_shape)
        except BaseException:
            self._forget()
            raise
        with self._lock:
            self._held[made] = made.input_bytes + made.output_bytes
        made.on_close = lambda: self._forget(made)
        return made

    def _make(self, lane: Lane, input_shape: tuple[int, ...]) -> CudaSlot:
        capture = self._graphs and self.network.capturable
        with self.gpu.active():
            run = self.network.prepare(input_shape, lane.stream.handle)
            dtype = self.signature.dtype
            item_bytes = np.dtype(dtype).itemsize
            slot_bytes = (math.prod(input_shape) + math.prod(run.output_shape)) * item_bytes
            try:
                self._check_limit(lane, run, slot_bytes)
            except BaseException:
                run.close()
                raise
            made = CudaSlot(self.gpu, lane, run, dtype, input_shape, capture=capture)
        try:
            if input_shape not in self._wanted:
                self._wanted[input_shape] = _slots_to_hide(*made.measure())
                log.info("%s: %d slots for %s", self.device, self._wanted[input_shape], input_shape)
                self.network.settled()
        except BaseException:
            made.close()
            raise
        return made

    def wanted_slots(self, input_shape: tuple[int, ...]) -> int:
        """Return how many slots keep the GPU busy: measured with the first one of the shape."""
        wanted = self._wanted.get(input_shape, MIN_SLOTS)
        if self._max_memory is None or not self._held:
            return wanted
        # all are of one size as a rule; what does not fit is found out when it is made
        left = self._max_memory - self.held_bytes
        return min(wanted, len(self._held) + left // max(self._held.values()))

    def device_memory(self, input_shape: tuple[int, ...]) -> DeviceMemory:
        """Return free and shared memory for slots of a shape."""
        shared = self.network.scratch_bytes(input_shape)
        with self.gpu.active():
            free, _ = self.gpu.memory()
        free += self.held_bytes
        limit = free if self._max_memory is None else min(free, self._max_memory)
        return DeviceMemory(limit, None if shared is None else shared * len(self._lanes))

    @property
    def held_bytes(self) -> int:
        """Device memory that slots and lanes have now."""
        return sum(self._held.values()) + sum(lane.held_bytes for lane in self._lanes)

    def _check_limit(self, lane: Lane, run: Run, slot_bytes: int) -> None:
        if self._max_memory is None:
            return
        need = slot_bytes + (0 if lane.has(run.scratch_bytes) else run.scratch_bytes)
        if self.held_bytes + need > self._max_memory:
            raise OutOfMemoryError(
                f"{self.device}: a slot needs {need:,} bytes, max_memory is {self._max_memory:,}, "
                f"{self.held_bytes:,} of them are in use"
            )

    def close(self) -> None:
        """Give everything back; harmless when repeated."""
        with self._lock:
            self._closed = True
        self._close_if_last()

    def _forget(self, slot: CudaSlot | None = None) -> None:
        with self._lock:
            self._living -= 1
            self._held.pop(slot, None)
        self._close_if_last()

    def _close_if_last(self) -> None:
        """Close network and lanes, but not under a slot that somebody still has."""
        with self._lock:
            if not self._closed or self._living:
                return
            lanes, self._lanes = self._lanes, []
        if lanes:
            self.network.close()
        for lane in lanes:
            lane.close()


def is_out_of_memory(text: Any) -> bool:
    """Say whether a library's message means that memory ran out."""
    said = str(text).lower()
    return any(
        word in said
        for word in ("out of memory", "failed to allocate memory", "outofmemory", "bad_alloc")
    )


def failure(text: str) -> BackendError:
    """Return the error for what a library said."""
    return OutOfMemoryError(text) if is_out_of_memory(text) else BackendError(text)


def _slots_to_hide(execute_ms: float, around_ms: float) -> int:
    """Return how many slots make everything around a computation disappear behind others."""
    if execute_ms <= 0:
        return MIN_SLOTS
    return min(MAX_SLOTS_EACH, max(MIN_SLOTS, 1 + math.ceil(around_ms / execute_ms)))
