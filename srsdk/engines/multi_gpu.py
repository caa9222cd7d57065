"""Run one model on several GPUs with a shared queue."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

from srsdk.engines.protocol import DeviceMemory, Engine, Slot


class MultiGpuEngine:
    """An `Engine` for the same model on several devices; slots are assigned to them in turn."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.engines = tuple(engines)
        self.backend = engines[0].backend
        self.device = ", ".join(engine.device for engine in engines)
        self.signature = engines[0].signature
        self.profiles = engines[0].profiles
        self.few_shapes = engines[0].few_shapes
        self._turn = itertools.cycle(self.engines)
        self._lock = threading.Lock()

    def slot(self, input_shape: tuple[int, ...]) -> Slot:
        """Make a slot on the next device."""
        with self._lock:
            engine = next(self._turn)
        return engine.slot(input_shape)

    def wanted_slots(self, input_shape: tuple[int, ...]) -> int:
        """Return how many slots keep all devices busy."""
        # the same number on each device, so that the turns stay even
        most = max(engine.wanted_slots(input_shape) for engine in self.engines)
        return most * len(self.engines)

    def device_memory(self, input_shape: tuple[int, ...]) -> DeviceMemory | None:
        """Return the memory of the fullest device times their number: slots are spread evenly."""
        found = [engine.device_memory(input_shape) for engine in self.engines]
        known = [memory for memory in found if memory is not None]
        if not known:
            return None
        shared = known[0].shared_bytes
        count = len(self.engines)
        return DeviceMemory(
            count * min(memory.free_bytes for memory in known),
            None if shared is None else count * shared,
        )

    def close(self) -> None:
        """Close all engines."""
        for engine in self.engines:
            engine.close()


def open_on_each(open_one: Callable[[int], Engine], gpus: Sequence[int]) -> Engine:
    """Open a model on each GPU; if one fails, close the others."""
    engines: list[Engine] = []
    try:
        for gpu in gpus:
            engines.append(open_one(gpu))  # noqa: PERF401 - opened engines must be closed on failure
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    return engines[0] if len(engines) == 1 else MultiGpuEngine(engines)
