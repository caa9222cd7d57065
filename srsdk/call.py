"""One call's progress, deadline and cancellation."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TypeAlias

from srsdk.errors import DeadlineExceeded, UsageError

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (tiles done, tiles in all) after each tile; what it raises cancels the call."""


class Call:
    """What may end a call early, asked before each tile.

    Args:
        progress: see `Progress`; None: nobody watches.
        timeout: seconds from now until `DeadlineExceeded`; None: no deadline.

    Raises:
        UsageError: a timeout that is no positive number.
    """

    def __init__(self, progress: Progress | None = None, timeout: float | None = None) -> None:
        if timeout is not None and not timeout > 0:
            raise UsageError(f"timeout is {timeout!r}, expected seconds above 0, or None")
        self._progress = progress
        self._timeout_s = timeout
        self._started_s = time.monotonic()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Make the next `check` raise; from any thread."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody has cancelled it."""
        return self._cancelled.is_set()

    @property
    def has_deadline(self) -> bool:
        """Whether it ends by itself."""
        return self._timeout_s is not None

    def check(self) -> None:
        """Return where the call may go on.

        Raises:
            concurrent.futures.CancelledError: somebody has cancelled it.
            DeadlineExceeded: its time is over.
        """
        if self.cancelled:
            raise CancelledError
        if self._timeout_s is None:
            return
        spent_s = time.monotonic() - self._started_s
        if spent_s >= self._timeout_s:
            raise DeadlineExceeded(
                f"the picture was not done within {self._timeout_s:g} s; a smaller picture, a "
                "faster model or a longer timeout mends it"
            )

    def part(self, progress: Progress) -> Call:
        """Return a part of this call: the same deadline and cancellation, another progress."""
        part = copy.copy(self)
        part._progress = progress
        return part

    def report(self, done: int, total: int) -> None:
        """Tell the caller's `progress`, if there is one."""
        if self._progress is not None:
            self._progress(done, total)
