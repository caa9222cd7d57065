"""Pool of slots, kept between calls and shared by threads."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from srsdk.engines.protocol import Engine, Slot
from srsdk.errors import BackendError, OutOfMemoryError

log = logging.getLogger("srsdk")

Shape = tuple[int, int, int, int]

MAX_IDLE_SHAPES = 4
"""Number of input shapes whose idle slots are kept; the least recently used are closed first."""
CHECK_S = 0.05
"""Interval at which a waiting call checks for cancellation and its deadline."""


class SlotPool:
    """Lends slots of one engine; at most `slots_per_shape` of a shape exist at a time.

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
        self._waiting: dict[Shape, deque[object]] = {}
        self._changed = threading.Condition(threading.RLock())
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
            while lent:
                self.release(shape, lent, lent[-1])

    def release(self, shape: Shape, lent: deque[Slot], slot: Slot) -> None:
        """Return a slot to the pool, where the next caller in the queue can take it.

        As everywhere in this class, a slot moves between lists in two steps, and the second cannot
        fail: a deque allocates nothing when it shrinks. A slot lost to a failed allocation would be
        waited for forever.
        """
        with self._changed:
            if self._closed:
                lent.remove(slot)
                slot.close()
            else:
                self._idle.setdefault(shape, deque()).append(slot)
                lent.remove(slot)
                self._idle.move_to_end(shape)
                while len(self._idle) > MAX_IDLE_SHAPES:
                    self._forget(*self._idle.popitem(last=False))
            self._changed.notify_all()

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
        with self._changed:
            while self._idle:
                self._forget(*self._idle.popitem(last=False))

    def close(self) -> None:
        """Close idle slots now, and lent slots when they are returned."""
        with self._changed:
            self._closed = True
            for slots in self._idle.values():
                for slot in slots:
                    slot.close()
            self._idle.clear()
            self._changed.notify_all()

    def _take(self, shape: Shape, lent: deque[Slot], check: Callable[[], None]) -> None:
        with self._changed:
            ticket = object()
            queue = self._waiting.setdefault(shape, deque())
            queue.append(ticket)
            try:
                while queue[0] is not ticket or not self._take_if_free(shape, lent):
                    check()
                    self._changed.wait(CHECK_S)
            finally:
                queue.remove(ticket)
                if not queue:
                    del self._waiting[shape]
                self._changed.notify_all()

    def _take_spare(self, shape: Shape, lent: deque[Slot]) -> bool:
        """Take a free slot if no other caller is waiting."""
        with self._changed:
            return not self._waiting.get(shape) and self._take_if_free(shape, lent)

    def _take_if_free(self, shape: Shape, lent: deque[Slot]) -> bool:
        self.check_open()
        idle = self._idle.get(shape)
        if idle:
            lent.append(idle[-1])
            idle.pop()
            return True
        made = self._made.get(shape, 0)
        if made >= self.limit(shape):
            return False
        self._made[shape] = made + 1
        try:
            lent.append(self._engine.slot(shape))
        except BaseException as error:
            self._made[shape] = made
            if not made or not isinstance(error, OutOfMemoryError):
                raise
            # the picture can do without it; logged once, because it is not tried again
            self._fitting[shape] = made
            log.warning("%s; continuing with %d slot(s) of %s", error, made, shape)
            return False
        return True

    def _forget(self, shape: Shape, slots: deque[Slot]) -> None:
        for slot in slots:
            slot.close()
        self._made[shape] -= len(slots)
        if not self._made[shape]:
            del self._made[shape]
