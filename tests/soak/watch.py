"""Stop the load at moments, and measure what a process holds while it rests."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REST_S = 120
"""How long the threads may take to end what they have begun."""


@dataclass(frozen=True)
class Held:
    """What the process holds at rest."""

    resident_bytes: int
    descriptors: int
    threads: int


class Gate:
    """Lets threads work, and waits until all of them rest."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed = False
        self._working = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Wait until the gate is open, and count this thread as working."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    @contextmanager
    def rest(self) -> Iterator[bool]:
        """Close the gate for a while; yield whether all threads rest."""
        with self._changed:
            self._closed = True
            at_rest = self._changed.wait_for(lambda: not self._working, REST_S)
        try:
            yield at_rest
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


def held() -> Held:
    """Measure after a garbage collection, and after the work that deadlines left behind."""
    until_s = time.monotonic() + REST_S
    while _abandoned() and time.monotonic() < until_s:
        time.sleep(0.05)
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    # the listing itself opens one
    descriptors = len(os.listdir("/proc/self/fd")) - 1
    return Held(pages * os.sysconf("SC_PAGE_SIZE"), descriptors, len(os.listdir("/proc/self/task")))


def _abandoned() -> bool:
    return any(thread.name == "srsdk-work" for thread in threading.enumerate())
