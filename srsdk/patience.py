"""Waiting for a slot no longer than a call may last."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy.typing as npt

from srsdk.call import Call
from srsdk.engines import Slot
from srsdk.pool import CHECK_S

Output = npt.NDArray[Any]


def wait(slot: Slot, call: Call, leave: Callable[[Future[Output]], None]) -> Output:
    """Wait for a slot's output.

    A library that hangs cannot be stopped, but a call with a deadline need not hang with it: it
    waits in a thread of its own, and leaves that behind when time is over.

    Args:
        slot: what was submitted.
        call: whose deadline counts; without one this is `slot.wait()`.
        leave: called with what becomes of the slot, when it is not waited for any longer.

    Raises:
        BackendError: the library failed.
        DeadlineExceeded, concurrent.futures.CancelledError: see `Call`.
    """
    if not call.has_deadline:
        return slot.wait()
    output = _begin(slot)
    while True:
        concurrent.futures.wait([output], timeout=CHECK_S)
        if output.done():
            return output.result()
        try:
            call.check()
        except BaseException:
            leave(output)
            raise


def _begin(slot: Slot) -> Future[Output]:
    future: Future[Output] = Future()

    def run() -> None:
        try:
            output = slot.wait()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(output)

    # a thread that hangs must not keep the process from ending
    threading.Thread(target=run, name="srsdk-wait", daemon=True).start()
    return future
