"""Start threads, with a clear error where the system refuses (a container's limit on processes)."""

from __future__ import annotations

import atexit
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from srsdk.errors import BackendError

T = TypeVar("T")

_REFUSED = (
    "the system refuses to start a thread; raise its limit on processes and threads (ulimit -u, or "
    "pids.max of the container)"
)


def started_pool(count: int, name: str) -> ThreadPoolExecutor:
    """Return a pool whose threads all run already, so that no later `submit` can fail to start one.

    `ThreadPoolExecutor.submit` queues the work before it starts a thread: if that fails, the work
    runs later, when nobody waits for it any more.

    Raises:
        BackendError: the system refuses; no thread is left running.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix=name)
    # while the threads wait here none is idle, so each `submit` starts another
    barrier = threading.Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(barrier.wait)
        barrier.wait()
    except BaseException as error:
        # threads that keep waiting would keep the process from exiting, after Ctrl-C too
        barrier.abort()
        pool.shutdown(wait=True, cancel_futures=True)
        if isinstance(error, RuntimeError):
            raise BackendError(_REFUSED) from error
        raise
    return pool


EXIT_S = 5.0
"""How long the exit of the process waits for work that a deadline left behind."""
IDLE_S = 5.0
"""How long a thread waits for more work before it ends."""
MAX_IDLE = 8
"""How many threads wait for more work; the others of a burst end with theirs."""


class _Worker(threading.Thread):
    """A daemon thread that does one piece of work after the other.

    A thread for each tile would take an address range of its own for memory each time, until a
    process that may have little of it (`ulimit -v`) has none for the next.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._given: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def give(self, work: Callable[[], None] | None, name: str) -> None:
        """Hand over the next work; None ends the thread."""
        self.name = name
        self._given.put(work)

    def run(self) -> None:
        while (work := self._next()) is not None:
            try:
                work()
            finally:
                # what it holds must not live on in an idle thread
                del work
                self.name = "srsdk-idle"
                with _lock:
                    _busy.discard(self)
            with _lock:
                if _ending or len(_idle) >= MAX_IDLE:
                    return
                _idle.append(self)

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._given.get(timeout=IDLE_S)
        except queue.Empty:
            with _lock:
                if self in _idle:
                    _idle.remove(self)
                    return None
        return self._given.get()  # chosen at this moment: its work is on its way


_lock = threading.Lock()
_busy: set[_Worker] = set()
_idle: list[_Worker] = []
_ending = False
"""The process exits: threads end with their work."""


def start(work: Callable[[], None], name: str) -> None:
    """Run `work` in a daemon thread, for which the exit of the process waits only a few seconds.

    Raises:
        BackendError: the system refuses; `work` does not run.
    """
    with _lock:
        worker = _idle.pop() if _idle else None
        if worker is not None:
            _busy.add(worker)
    if worker is None:
        worker = _Worker()
        try:
            worker.start()
        except RuntimeError as error:
            raise BackendError(_REFUSED) from error
        with _lock:
            _busy.add(worker)
    worker.give(work, name)


def future_of(work: Callable[[], T], name: str) -> Future[T]:
    """Run `work` in a thread of `start` and return the future of its result or exception.

    Raises:
        BackendError: the system refuses; `work` does not run.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    start(run, name)
    return future


def end_idle() -> list[threading.Thread]:
    """Tell all threads that wait for work to end, and return them."""
    with _lock:
        idle = _idle.copy()
        _idle.clear()
    for worker in idle:
        worker.give(None, worker.name)
    return [*idle]


@atexit.register
def _wait_at_exit() -> None:
    """Let threads leave C++ code: CPython before 3.14 aborts when it ends them there."""
    global _ending
    end_s = time.monotonic() + EXIT_S
    with _lock:
        _ending = True
        busy = list(_busy)
    for worker in (*end_idle(), *busy):
        worker.join(max(0.0, end_s - time.monotonic()))


def _forget() -> None:
    """In a fork no thread but the caller's is left, and the lock may have been held."""
    global _lock
    _lock = threading.Lock()
    _busy.clear()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
