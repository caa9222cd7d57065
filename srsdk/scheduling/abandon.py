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

    def abandon(future: Future[T]) -> None:
        call.abandoned.append(future)
        future.add_done_callback(lambda _: leave())

    return watch(threads.future_of(work, "srsdk-work"), call, abandon)


def watch(future: Future[T], call: Call, leave: Callable[[Future[T]], None]) -> T:
    """Wait for a future, but no longer than the call's deadline.

    Args:
        future: the future, of a thread that may not end.
        call: the call with the deadline.
        leave: called with the future when it is abandoned.

    Raises:
        DeadlineExceeded, concurrent.futures.CancelledError: see `Call`.
    """
    while True:
        concurrent.futures.wait([future], timeout=CHECK_S)
        if future.done():
            return future.result()
        try:
            call.check()
        except BaseException:
            leave(future)
            raise
