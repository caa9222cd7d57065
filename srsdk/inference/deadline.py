"""Wait for a slot, but no longer than the deadline of the call."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import numpy.typing as npt

from srsdk.engines.protocol import Slot
from srsdk.errors import BackendError
from srsdk.scheduling.abandon import watch
from srsdk.scheduling.context import Call
from srsdk.system import threads

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
        BackendError: the library failed, or no thread can be started; the slot still computes.
        DeadlineExceeded, concurrent.futures.CancelledError: see `Call`.
    """
    if not call.has_deadline:
        return slot.wait()
    return watch(_begin(slot), call, leave)


def settle(slot: Slot, call: Call, leave: Callable[[Future[Output]], None]) -> None:
    """Wait until a slot is idle, whatever its result.

    Arguments are those of `wait`. Interrupted, it abandons the slot and raises the interrupt.
    """
    try:
        with suppress(Exception):  # the failure that ended the call is what is reported
            output = _begin_if_possible(slot) if call.has_deadline else None
            if output is None:
                slot.wait()
            else:
                watch(output, call, leave)
    except BaseException:
        if (output := _begin_if_possible(slot)) is not None:
            leave(output)
        else:
            slot.wait()
        raise


def _begin_if_possible(slot: Slot) -> Future[Output] | None:
    try:
        return _begin(slot)
    except BackendError:
        return None


def _begin(slot: Slot) -> Future[Output]:
    return threads.future_of(slot.wait, "srsdk-wait")
