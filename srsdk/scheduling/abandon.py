"""Abandon work that cannot be interrupted, such as decoding, when its deadline passes."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from srsdk.budget import CHECK_S
from srsdk.scheduling.context import Call
from srsdk.system import threads

T = TypeVar("T")


def within(call: Call, work: Callable[[], T], leave: Callable[[], None] = lambda: None) -> T:
    """Return `work()`, or raise when the deadline passes first.

    Without a deadline the work runs in this thread. With one it runs in a thread of its own, which
    is abandoned: it ends later, and the memory of the call stays reserved until then. Work that
    does not release the interpreter's lock delays the deadline until it does.

    Args:
        call: the call with the deadline.
        work: takes as long as it takes.
        leave: called when abandoned work ends, in its thread.

    Raises:
        DeadlineExceeded, concurrent.futures.CancelledError: see `Call`.
        BackendError: no thread can be started.
    """
    if not call.has_deadline:
        return work()
    call.check()
    future: Future[T] = Future()
    threads.start(lambda: _run(work, future), "srsdk-work")
    while True:
        concurrent.futures.wait([future], timeout=CHECK_S)
        if future.done():
            return future.result()
        try:
            call.check()
        except BaseException:
            call.abandoned.append(future)
            future.add_done_callback(lambda _: leave())
            raise


def _run(work: Callable[[], T], future: Future[T]) -> None:
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
