"""Wait for futures without blocking Ctrl-C."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

TICK_S = 0.2
"""Longest single wait; between two waits the interpreter handles Ctrl-C."""


def result_of(future: Future[T]) -> T:
    """Wait for a future's result without blocking Ctrl-C.

    On Windows nothing interrupts a wait without a timeout.
    """
    while not future.done():
        # of `result`, not of `concurrent.futures.wait`: it refuses to wait for itself
        with suppress(TimeoutError):
            return future.result(TICK_S)
    return future.result()
