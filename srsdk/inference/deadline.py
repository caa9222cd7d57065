"""Wait for a slot, but no longer than the deadline of the call."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy.typing as npt

from srsdk.engines.protocol import Slot
from srsdk.inference.slot_pool import CHECK_S
from srsdk.scheduling.context import Call

Output = npt.NDArray[Any]


def wait(slot: Slot, call: Call, leave: Callable[[Future[Output]], None]) -> Output:
    """Wait for a slot's output.

    A library that hangs cannot be stopped, but a call with a deadline need not hang with it: a
    separate thread waits for the slot and is abandoned when the deadline passes.

    Args:
        slot: the submitted slot.
        call: the call with the deadline; without one this is `slot.wait()`.
        leave: called with the future of the output when it is abandoned.

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

    # daemon: a hanging thread must not keep the process from exiting
    threading.Thread(target=run, name="srsdk-wait", daemon=True).start()
    return future
