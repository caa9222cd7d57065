"""Start threads, with a clear error where the system refuses (a container's limit on processes)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from srsdk.errors import BackendError

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


def start(work: Callable[[], None], name: str) -> None:
    """Run `work` in a daemon thread, which does not keep the process from exiting.

    Raises:
        BackendError: the system refuses; `work` does not run.
    """
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError as error:
        raise BackendError(_REFUSED) from error
