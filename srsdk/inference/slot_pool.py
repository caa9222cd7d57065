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
MAX_INTERRUPTS = 8
"""Interrupts and failures while the slots of one call are returned; they are raised afterwards."""


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
        # entered itself: Ctrl-C within Condition.__enter__ would keep the lock forever
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
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
            self._return_all(shape, lent)

    def release(self, shape: Shape, lent: deque[Slot], slot: Slot) -> None:
        """Return a slot to the pool, where the next caller in the queue can take it.

        Raises whatever `Slot.close` raises.
        """
        with self._lock:
            if self._closed:
                lent.remove(slot)
                slot.close()
            else:
                _move(slot, lent, self._idle.setdefault(shape, deque()))
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
        with self._lock:
            while self._idle:
                self._forget(*self._idle.popitem(last=False))

    def close(self) -> None:
        """Close idle slots now, and lent slots when they are returned."""
        with self._lock:
            self._closed = True
            for slots in self._idle.values():
                for slot in slots:
                    slot.close()
            self._idle.clear()
            self._changed.notify_all()

    def _return_all(self, shape: Shape, lent: deque[Slot]) -> None:
        """Release all slots, even if Ctrl-C or a failed allocation strikes meanwhile."""
        failure: BaseException | None = None
        for _ in range(len(lent) + MAX_INTERRUPTS):
            try:
                while lent:
                    self.release(shape, lent, lent[-1])
                break
            except BaseException as error:
                failure = error
        if failure is not None:
            raise failure

    def _take(self, shape: Shape, lent: deque[Slot], check: Callable[[], None]) -> None:
        with self._lock:
            ticket = object()
            queue = self._waiting.setdefault(shape, deque())
            try:
                queue.append(ticket)
                while queue[0] is not ticket or not self._take_if_free(shape, lent):
                    check()
                    self._changed.wait(CHECK_S)
            finally:
                if ticket in queue:
                    queue.remove(ticket)
                if not queue:
                    del self._waiting[shape]
                self._changed.notify_all()

    def _take_spare(self, shape: Shape, lent: deque[Slot]) -> bool:
        """Take a free slot if no other caller is waiting."""
        with self._lock:
            return not self._waiting.get(shape) and self._take_if_free(shape, lent)

    def _take_if_free(self, shape: Shape, lent: deque[Slot]) -> bool:
        self.check_open()
        idle = self._idle.get(shape)
        if idle:
            _move(idle[-1], idle, lent)
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


def _move(slot: Slot, source: deque[Slot], target: deque[Slot]) -> None:
    """Move a slot between two lists, in two steps.

    The second cannot fail, because a deque allocates nothing when it shrinks, and Ctrl-C cannot
    skip it: a slot in neither list would be waited for forever, one in both would be used twice.
    """
    try:
        target.append(slot)
    finally:
        if target and target[-1] is slot:
            source.remove(slot)
