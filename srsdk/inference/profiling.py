"""Profile calls by step: `with up.profile() as calls: ...`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from srsdk.engines.protocol import Slot


@dataclass(frozen=True)
class CallTimings:
    """Timings of one call in milliseconds; steps are summed over tiles and may overlap."""

    total_ms: float
    """From input array to output array."""
    queue_ms: float
    """Waiting for a free slot."""
    stage_ms: float
    """Copying tiles into the slots' inputs."""
    h2d_ms: float
    """Copies to the GPU, from CUDA events; 0 on a CPU."""
    execute_ms: float
    """The network, from CUDA events or the library's clock."""
    d2h_ms: float
    """Copies from the GPU, from CUDA events; 0 on a CPU."""
    wait_ms: float
    """Time that the caller's thread was blocked until a tile was ready."""
    paste_ms: float
    """Checking tiles and pasting them into the result."""
    tiles: int
    """Number of computed batches of tiles."""


class Stopwatch:
    """Sums the times of the steps of one call."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()
        self._ms: dict[str, float] = {}
        self._tiles = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of a block to a step."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            spent_ms = 1000 * (time.perf_counter() - began_s)
            self._ms[name] = self._ms.get(name, 0.0) + spent_ms

    def prepare(self, slots: Iterable[Slot]) -> None:
        """Turn on timing in the slots."""
        for slot in slots:
            slot.timed = True

    def add(self, slot: Slot) -> None:
        """Add the times of a slot's last run."""
        self._tiles += 1
        for name, ms in slot.times().items():
            self._ms[name] = self._ms.get(name, 0.0) + ms

    def stop(self) -> CallTimings:
        """Return the summed times."""
        ms = self._ms
        names = ("queue", "stage", "h2d", "execute", "d2h", "wait", "paste")
        steps = {f"{name}_ms": ms.get(name, 0.0) for name in names}
        total_ms = 1000 * (time.perf_counter() - self._began_s)
        return CallTimings(total_ms=total_ms, tiles=self._tiles, **steps)


class NoStopwatch(Stopwatch):
    """A stopwatch that records nothing."""

    def __init__(self) -> None:
        self._nothing = nullcontext()

    def step(self, name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Do nothing."""
        return self._nothing

    def prepare(self, slots: Iterable[Slot]) -> None:
        """Turn off timing in the slots."""
        for slot in slots:
            slot.timed = False

    def add(self, slot: Slot) -> None:
        """Do nothing."""


class Profiler:
    """Gives each call a stopwatch while a `profile` block is active."""

    def __init__(self) -> None:
        self._open: list[list[CallTimings]] = []
        self._lock = threading.Lock()
        self._none = NoStopwatch()

    @contextmanager
    def profile(self) -> Iterator[list[CallTimings]]:
        """Collect the timings of all calls, in all threads, that end within the block."""
        calls: list[CallTimings] = []
        with self._lock:
            self._open.append(calls)
        try:
            yield calls
        finally:
            with self._lock:
                self._open = [one for one in self._open if one is not calls]

    def start(self) -> Stopwatch:
        """Return a stopwatch for a call."""
        return Stopwatch() if self._open else self._none

    def finish(self, watch: Stopwatch) -> None:
        """Store the timings of a finished call."""
        if isinstance(watch, NoStopwatch):
            return
        timings = watch.stop()
        with self._lock:
            for calls in self._open:
                calls.append(timings)
