"""Where the time of a call goes: `with up.profile() as calls: ...`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from srsdk.engines import Slot


@dataclass(frozen=True)
class CallTimings:
    """Of one call, in milliseconds; steps of several tiles are added up, and overlap."""

    total_ms: float
    """From the array to the array."""
    queue_ms: float
    """Waiting for a free slot."""
    stage_ms: float
    """Cutting tiles into the slots' inputs."""
    h2d_ms: float
    """Copies to the GPU, by its events; 0 on a CPU."""
    execute_ms: float
    """The network, by the GPU's events or the library's clock."""
    d2h_ms: float
    """Copies from the GPU, by its events; 0 on a CPU."""
    wait_ms: float
    """The caller's thread, blocked until a tile was there: what nothing hid."""
    lay_ms: float
    """Checking tiles and laying them on the result."""
    tiles: int
    """Batches of tiles that were computed."""


class Stopwatch:
    """Adds up the steps of one call."""

    def __init__(self) -> None:
        self._began_s = time.perf_counter()
        self._ms: dict[str, float] = {}
        self._tiles = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a block, as part of a step."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            spent_ms = 1000 * (time.perf_counter() - began_s)
            self._ms[name] = self._ms.get(name, 0.0) + spent_ms

    def prepare(self, slots: Iterable[Slot]) -> None:
        """Let slots note their times."""
        for slot in slots:
            slot.timed = True

    def add(self, slot: Slot) -> None:
        """Add what a slot noted of its last run."""
        self._tiles += 1
        for name, ms in slot.times().items():
            self._ms[name] = self._ms.get(name, 0.0) + ms

    def stop(self) -> CallTimings:
        """Return the sums."""
        ms = self._ms
        names = ("queue", "stage", "h2d", "execute", "d2h", "wait", "lay")
        steps = {f"{name}_ms": ms.get(name, 0.0) for name in names}
        total_ms = 1000 * (time.perf_counter() - self._began_s)
        return CallTimings(total_ms=total_ms, tiles=self._tiles, **steps)


class NoStopwatch(Stopwatch):
    """Costs nothing."""

    def __init__(self) -> None:
        self._nothing = nullcontext()

    def step(self, name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Do nothing."""
        return self._nothing

    def prepare(self, slots: Iterable[Slot]) -> None:
        """Let slots note nothing."""
        for slot in slots:
            slot.timed = False

    def add(self, slot: Slot) -> None:
        """Do nothing."""


class Profiler:
    """Gives each call a stopwatch, while somebody wants to know."""

    def __init__(self) -> None:
        self._open: list[list[CallTimings]] = []
        self._lock = threading.Lock()
        self._none = NoStopwatch()

    @contextmanager
    def profile(self) -> Iterator[list[CallTimings]]:
        """Collect the timings of all calls that end within the block, of all threads."""
        calls: list[CallTimings] = []
        with self._lock:
            self._open.append(calls)
        try:
            yield calls
        finally:
            with self._lock:
                self._open = [one for one in self._open if one is not calls]

    def start(self) -> Stopwatch:
        """Return the stopwatch of a call."""
        return Stopwatch() if self._open else self._none

    def finish(self, watch: Stopwatch) -> None:
        """Keep what a stopwatch showed."""
        if isinstance(watch, NoStopwatch):
            return
        timings = watch.stop()
        with self._lock:
            for calls in self._open:
                calls.append(timings)
