"""Start threads, with a clear error where the system refuses (a container's limit on processes)."""

from __future__ import annotations

import atexit
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
_running: set[threading.Thread] = set()


def start(work: Callable[[], None], name: str) -> None:
    """Run `work` in a daemon thread, for which the exit of the process waits only a few seconds.

    Raises:
        BackendError: the system refuses; `work` does not run.
    """

    def run() -> None:
        try:
            work()
        finally:
            _running.discard(threading.current_thread())

    thread = threading.Thread(target=run, name=name, daemon=True)
    _running.add(thread)
    try:
        thread.start()
    except RuntimeError as error:
        _running.discard(thread)
        raise BackendError(_REFUSED) from error


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


@atexit.register
def _wait_at_exit() -> None:
    """Let threads leave C++ code: CPython before 3.14 aborts when it ends them there."""
    end_s = time.monotonic() + EXIT_S
    for thread in list(_running):
        thread.join(max(0.0, end_s - time.monotonic()))
