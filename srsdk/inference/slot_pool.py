"""Pool of slots, kept between calls and shared by threads."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from srsdk.engines.protocol import Engine, Slot
from srsdk.errors import BackendError, OutOfMemoryError

log = logging.getLogger("srsdk")

Shape = tuple[int, int, int, int]

MAX_IDLE_SHAPES = 4
"""Number of input shapes whose idle slots are kept; the least recently used are closed first."""
CHECK_S = 0.05
"""Interval at which a waiting call checks for cancellation and its deadline."""
MAX_INTERRUPTS = 8
"""Interrupts and failures while the slots of one call are returned; they are raised afterwards."""

_PLACE: Any = object()
"""Stands in a caller's list for the slot that the caller is making; `_made` counts it already."""


class SlotPool:
    """Lends slots of one engine; at most `slots_per_shape` of a shape exist at a time.

    A slot is made and closed outside the lock, because a library may compile kernels for seconds:
    meanwhile other callers take, make and return slots.

    Args:
        engine: makes the slots.
        slots_per_shape: limit for each shape; None: as many as the engine wants.
    """

    def __init__(self, engine: Engine, slots_per_shape: int | None) -> None:
        self._engine = engine
        self._slots_per_shape = slots_per_shape
        self._fitting: dict[Shape, int] = {}
        self._idle: OrderedDict[Shape, deque[Slot]] = OrderedDict()
        self._made: dict[Shape, int] = {}
        self._waiting: dict[Shape, deque[int]] = {}
        self._tickets = itertools.count()
        self._unwanted: deque[tuple[Shape, Slot]] = deque()
        # entered itself: Ctrl-C within Condition.__enter__ would keep the lock forever
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        # entered before the other lock, never after it
        self._closing = threading.RLock()
        self._closed = False

    @contextmanager
    def lend(
        self, shape: Shape, wanted: int, check: Callable[[], None] = lambda: None
    ) -> Iterator[deque[Slot]]:
        """Lend one slot, waiting for it if necessary, and up to `wanted` slots if they are free.

        A caller waits only for its first slot, so any number of threads make progress; they are
        served in order of arrival. The slots left in the list are returned at the end;
        `release` returns a slot earlier.

        Args:
            shape: the slots' input shape.
            wanted: how many slots the caller can use.
            check: called while waiting; an exception from it ends the wait.

        Raises:
            BackendError: closed, or the engine cannot make a slot.
        """
        lent: deque[Slot] = deque()
        try:
            self._take(shape, lent, check)
            while len(lent) < wanted and self._take_spare(shape, lent):
                pass
            yield lent
        finally:
            try:
                self._return_all(shape, lent)
            finally:
                # Ctrl-C can strike before the first line of the call above
                if lent:
                    self._return_all(shape, lent)

    def release(self, shape: Shape, lent: deque[Slot], slot: Slot) -> None:
        """Return a slot to the pool, where the next caller in the queue can take it.

        Raises whatever `Slot.close` raises.
        """
        self._put_back(shape, lent, slot)
        self._close_unwanted()

    def check_open(self) -> None:
        """Check that the pool is open.

        Raises:
            BackendError: the pool is closed.
        """
        if self._closed:
            raise BackendError("this Upscaler is closed")

    def limit(self, shape: Shape) -> int:
        """Return how many slots of a shape may exist."""
        wanted = self._slots_per_shape or self._engine.wanted_slots(shape)
        return min(wanted, self._fitting.get(shape, wanted))

    def drop_idle(self) -> None:
        """Close all idle slots to free memory."""
        with self._lock:
            self._keep_idle(0)
        self._close_unwanted()

    def close(self) -> None:
        """Close idle slots now, and lent slots when they are returned."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
        self._close_unwanted()

    def _return_all(self, shape: Shape, lent: deque[Slot]) -> None:
        """Return slots and place, even if Ctrl-C or a failed allocation strikes meanwhile."""
        failure: BaseException | None = None
        for _ in range(len(lent) + MAX_INTERRUPTS):
            try:
                while lent:
                    self._put_back(shape, lent, lent[-1])
                self._close_unwanted()
                break
            except BaseException as error:
                failure = error
        if failure is not None:
            raise failure

    def _put_back(self, shape: Shape, lent: deque[Slot], slot: Slot) -> None:
        with self._lock:
            if slot is _PLACE:
                self._uncount(shape)
                lent.pop()
            else:
                _move(slot, lent, self._idle.setdefault(shape, deque()))
                self._idle.move_to_end(shape)
            self._changed.notify_all()

    def _take(self, shape: Shape, lent: deque[Slot], check: Callable[[], None]) -> None:
        """Take the caller's first slot."""
        ticket = next(self._tickets)
        while not lent:
            # slots that an interrupt left unclosed still count: this call could wait forever
            self._close_unwanted()
            self._wait(shape, lent, check, ticket)
            self._make(shape, lent)

    def _wait(
        self, shape: Shape, lent: deque[Slot], check: Callable[[], None], ticket: int
    ) -> None:
        """Wait for an idle slot or a place, in the order of the tickets, or for slots to close."""
        with self._lock:
            queue = self._waiting.setdefault(shape, deque())
            try:
                queue.append(ticket)
                while min(queue) != ticket or not self._take_if_free(shape, lent):
                    check()
                    self._changed.wait(CHECK_S)
                    if self._unwanted:
                        break
            finally:
                if ticket in queue:
                    queue.remove(ticket)
                if not queue:
                    del self._waiting[shape]
                self._changed.notify_all()

    def _take_spare(self, shape: Shape, lent: deque[Slot]) -> bool:
        """Take or make one more slot if no other caller is waiting for one."""
        with self._lock:
            if self._waiting.get(shape) or not self._take_if_free(shape, lent):
                return False
        if not self._make(shape, lent):
            return False
        if self._waiting.get(shape):
            # somebody came while it was made
            self.release(shape, lent, lent[-1])
            return False
        return True

    def _take_if_free(self, shape: Shape, lent: deque[Slot]) -> bool:
        """Take an idle slot, or a place to make one in; call it with the lock."""
        self.check_open()
        idle = self._idle.get(shape)
        if idle:
            _move(idle[-1], idle, lent)
            return True
        made = self._made.get(shape, 0)
        if made >= self.limit(shape):
            return False
        # counted first: Ctrl-C strikes after a call into C, never between this line and the call
        self._made[shape] = made + 1
        try:
            lent.append(_PLACE)
        finally:
            if not lent or lent[-1] is not _PLACE:
                self._uncount(shape)
        return True

    def _make(self, shape: Shape, lent: deque[Slot]) -> bool:
        """Make a slot if the caller has a place for it; call it without the lock.

        Returns:
            Whether the caller has it; False: no memory, but other slots of the shape exist.
        """
        if not lent or lent[-1] is not _PLACE:
            return bool(lent)
        try:
            # one statement: Ctrl-C cannot strike between the end of `slot` and the assignment
            lent[-1] = self._engine.slot(shape)
        except OutOfMemoryError as error:
            self.check_open()
            if not (fitting := self._fit(shape)):
                raise
            # the picture can do without it; logged once, because it is not tried again
            log.warning("%s; continuing with %d slot(s) of %s", error, fitting, shape)
            self._put_back(shape, lent, _PLACE)
            return False
        except Exception:
            # an engine that was closed meanwhile fails in its own words
            self.check_open()
            raise
        self.check_open()
        return True

    def _fit(self, shape: Shape) -> int:
        """Return how many other slots of the shape exist, and let no more be made."""
        with self._lock:
            others = self._made[shape] - 1
            if others:
                self._fitting[shape] = min(others, self._fitting.get(shape, others))
            return others

    def _uncount(self, shape: Shape) -> None:
        """Count one slot less; the caller holds the lock and drops slot or place at once."""
        made = self._made[shape] - 1
        if made:
            self._made[shape] = made
        else:
            del self._made[shape]

    def _keep_idle(self, shapes: int) -> None:
        """Set aside the idle slots of all but the last used shapes; call it with the lock."""
        while len(self._idle) > shapes:
            shape = next(iter(self._idle))
            idle = self._idle[shape]
            while idle:
                _move(idle[-1], idle, self._unwanted, (shape, idle[-1]))
            del self._idle[shape]

    def _close_unwanted(self) -> None:
        """Close the slots that are not kept; call it without the lock.

        Interrupted, it leaves the slot to the next call, which closes it again; that is safe.
        """
        with self._lock:
            self._keep_idle(0 if self._closed else MAX_IDLE_SHAPES)
        if not self._unwanted:
            return
        failure: Exception | None = None
        with self._closing:
            while self._unwanted:
                entry = shape, slot = self._unwanted[0]
                try:
                    slot.close()
                except Exception as error:
                    failure = error
                with self._lock:
                    # a signal handler that closes the Upscaler may have been here meanwhile
                    if self._unwanted and self._unwanted[0] is entry:
                        self._uncount(shape)
                        self._unwanted.popleft()
                    self._changed.notify_all()
        if failure is not None:
            raise failure


def _move(slot: Slot, source: deque[Slot], target: deque[Any], entry: Any = None) -> None:
    """Move a slot between two lists, in two steps; in the second list it is `entry`, if given.

    The second cannot fail, because a deque allocates nothing when it shrinks, and Ctrl-C cannot
    skip it: a slot in neither list would be waited for forever, one in both would be used twice.
    """
    entry = slot if entry is None else entry
    try:
        target.append(entry)
    finally:
        if target and target[-1] is entry:
            source.remove(slot)
