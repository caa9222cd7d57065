"""Progress, deadline, cancellation and budget of one call."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from types import MappingProxyType
from typing import Any, TypeAlias

from srsdk import budget as budgets
from srsdk.budget import Budget
from srsdk.errors import DeadlineExceeded, UsageError

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (tiles done, total) after each tile; an exception that it raises cancels the call."""

NONE: Mapping[str, float] = MappingProxyType({})


class Call:
    """Deadline and cancellation of a call, checked before each tile, and its budget.

    Args:
        progress: see `Progress`; None: no reports.
        timeout: seconds from now until `DeadlineExceeded`; None: only the budget's.
        budget: limits shared with other calls; None: those of the process.
        inputs: numbers for the network beside the picture, by keyword.

    Raises:
        UsageError: the timeout is not a positive number.
    """

    def __init__(
        self,
        progress: Progress | None = None,
        timeout: float | None = None,
        budget: Budget | None = None,
        inputs: Mapping[str, float] = NONE,
    ) -> None:
        if timeout is not None and not _is_positive(timeout):
            raise UsageError(f"timeout is {timeout!r}, expected seconds above 0, or None")
        self.budget = budget or budgets.DEFAULT
        self.inputs = inputs
        """Numbers for the network beside the picture; those it lacks are the manifest's."""
        self.abandoned: list[Future[Any]] = []
        """Work that the deadline left behind, which still uses memory."""
        self._progress = progress
        limits = [limit for limit in (timeout, self.budget.seconds) if limit is not None]
        self._timeout_s = min(limits, default=None)
        self._started_s = time.monotonic()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Make the next `check` raise; may be called from any thread."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether the call was cancelled."""
        return self._cancelled.is_set()

    @property
    def has_deadline(self) -> bool:
        """Whether the call has a deadline."""
        return self._timeout_s is not None

    def check(self) -> None:
        """Raise if the call was cancelled or is past its deadline.

        Raises:
            concurrent.futures.CancelledError: the call was cancelled.
            DeadlineExceeded: the deadline has passed.
        """
        if self.cancelled:
            raise CancelledError
        if self._timeout_s is None:
            return
        spent_s = time.monotonic() - self._started_s
        if spent_s >= self._timeout_s:
            raise DeadlineExceeded(
                f"the picture was not done within {self._timeout_s:g} s; try a smaller picture, a "
                "faster model or a longer timeout"
            )

    def part(self, progress: Progress) -> Call:
        """Return a part of this call: same deadline and cancellation, its own progress."""
        part = copy.copy(self)
        part._progress = progress
        return part

    def report(self, done: int, total: int) -> None:
        """Call the caller's `progress`, if there is one."""
        if self._progress is not None:
            self._progress(done, total)


def _is_positive(seconds: object) -> bool:
    return isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds > 0
