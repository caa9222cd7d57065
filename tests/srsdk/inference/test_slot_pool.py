"""Slots are made outside the lock; none is lost, lent twice or made beyond the limit."""

from __future__ import annotations

import contextlib
import logging
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

import pytest

from srsdk.engines.protocol import Slot
from srsdk.errors import BackendError, OutOfMemoryError
from srsdk.inference import slot_pool
from srsdk.inference.slot_pool import MAX_IDLE_SHAPES, Shape, SlotPool
from tests.fakes.engine import FakeEngine, FakeSlot
from tests.srsdk.inference.test_recovery import Interrupts

A, B = (1, 8, 8, 3), (1, 16, 16, 3)
SHAPES = [(1, side, side, 3) for side in range(8, 8 + MAX_IDLE_SHAPES + 2)]
END_S = 60


class GatedEngine(FakeEngine):
    """Makes a slot of shape `A` only when the test opens `gate`, as a compiler of kernels does."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Semaphore(0)
        self.opened = threading.Semaphore(0)
        self.failures: deque[BaseException] = deque()

    def slot(self, input_shape: tuple[int, ...]) -> FakeSlot:
        """Make a slot, or fail with the next of `failures`."""
        if input_shape == A:
            self.started.release()
            assert self.opened.acquire(timeout=END_S), "the test forgot the gate"
            if self.failures:
                raise self.failures.popleft()
        return super().slot(input_shape)


class Holder:
    """Holds what a thread has borrowed until the test lets it go."""

    def __init__(self, pool: SlotPool, shape: Shape, wanted: int = 1) -> None:
        self.has = threading.Event()
        self.leave = threading.Event()
        self.lent: deque[Slot] = deque()
        self.done: Future[None] = Future()
        threading.Thread(target=self._run, args=(pool, shape, wanted), daemon=True).start()

    def _run(self, pool: SlotPool, shape: Shape, wanted: int) -> None:
        try:
            with pool.lend(shape, wanted) as self.lent:
                self.has.set()
                assert self.leave.wait(END_S), "the test forgot the holder"
        except BaseException as error:
            self.done.set_exception(error)
        else:
            self.done.set_result(None)

    def end(self) -> None:
        """Return the slots."""
        self.leave.set()
        self.done.result(END_S)


def until(condition: Callable[[], bool]) -> None:
    """Wait until something has happened."""
    end_s = time.monotonic() + END_S
    while not condition():
        assert time.monotonic() < end_s, "it never happened"
        time.sleep(0.001)


def at_once(work: Callable[[], Any]) -> Any:
    """Return the result of some work that must not wait for a gate."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(5)


def borrow(pool: SlotPool, shape: Shape, wanted: int = 1) -> int:
    """Borrow and return slots, and return how many they were."""
    with pool.lend(shape, wanted) as lent:
        return len(lent)


def fail_to_wait() -> None:
    """Stand for a wait that would not end."""
    raise AssertionError("a slot or its place was lost")


def check(pool: SlotPool, engine: FakeEngine) -> None:
    """Every open slot is idle or waits to be closed, once, and is counted."""
    kept = [(shape, slot) for shape, slots in pool._idle.items() for slot in slots]
    kept += pool._unwanted
    assert Counter(shape for shape, _ in kept) == pool._made
    there = sorted(id(slot) for _, slot in kept)
    open_slots = sorted(id(slot) for slot in engine.slots if not slot.closed)
    assert len(set(there)) == len(there)
    # an interrupt between `close` and the count leaves a closed slot, which is closed again
    closed = {id(slot) for _, slot in pool._unwanted}
    assert set(open_slots) <= set(there)
    assert set(there) - closed <= set(open_slots)


def test_others_go_on_while_a_slot_is_made() -> None:
    """A library may compile for seconds: other shapes are made, slots are returned meanwhile."""
    engine = GatedEngine()
    pool = SlotPool(engine, 2)
    holder = Holder(pool, B)
    assert holder.has.wait(END_S)
    maker = Holder(pool, A)
    assert engine.started.acquire(timeout=END_S)
    assert at_once(lambda: borrow(pool, B)) == 1
    at_once(lambda: pool.release(B, holder.lent, holder.lent[-1]))
    assert at_once(lambda: borrow(pool, B, 2)) == 2
    at_once(pool.drop_idle)
    assert pool._made == {A: 1}
    assert pool.limit(A) == 2
    engine.opened.release()
    assert maker.has.wait(END_S)
    maker.end()
    holder.end()
    check(pool, engine)


def test_closing_while_a_slot_is_made() -> None:
    """`close` does not wait; the slot is closed when it is made, and its caller gets an error."""
    engine = GatedEngine()
    pool = SlotPool(engine, 2)
    makers = [Holder(pool, A), Holder(pool, A)]
    for _ in makers:
        assert engine.started.acquire(timeout=END_S)
    waiter = Holder(pool, A)
    at_once(pool.close)
    with pytest.raises(BackendError, match="closed"):
        waiter.done.result(END_S)
    # an engine that is closed meanwhile fails in its own words
    engine.failures.append(KeyError("compiled"))
    engine.opened.release(2)
    for maker in makers:
        with pytest.raises(BackendError, match="this Upscaler is closed"):
            maker.done.result(END_S)
    assert len(engine.slots) == 1
    assert engine.slots[0].closed
    assert pool._made == {}


def test_a_waiting_call_takes_a_slot_that_is_returned() -> None:
    """It does not wait for the one that another call makes."""
    engine = GatedEngine()
    pool = SlotPool(engine, 2)
    engine.opened.release()
    first = Holder(pool, A)
    assert first.has.wait(END_S)
    maker = Holder(pool, A)
    for _ in range(2):
        assert engine.started.acquire(timeout=END_S)
    waiter = Holder(pool, A)
    until(lambda: A in pool._waiting)
    first.end()
    assert waiter.has.wait(END_S)
    assert not maker.has.is_set()
    engine.opened.release()
    maker.end()
    waiter.end()
    check(pool, engine)


def test_a_spare_slot_goes_to_who_came_meanwhile() -> None:
    """A spare slot is for callers whom nobody waits behind, also after the time to make it."""
    engine = GatedEngine()
    pool = SlotPool(engine, 2)
    engine.opened.release()
    maker = Holder(pool, A, wanted=2)
    for _ in range(2):
        assert engine.started.acquire(timeout=END_S)
    waiter = Holder(pool, A)
    until(lambda: A in pool._waiting)
    engine.opened.release()
    assert waiter.has.wait(END_S)
    assert maker.has.wait(END_S)
    assert (len(maker.lent), len(waiter.lent)) == (1, 1)
    maker.end()
    waiter.end()
    check(pool, engine)


def test_no_spare_slot_is_made_while_another_call_waits() -> None:
    """The place is for the one that waits, even if it has not woken up yet."""
    engine = FakeEngine()
    pool = SlotPool(engine, 2)
    with pool.lend(A, 1) as lent:
        pool._waiting[A] = deque([99])
        assert not pool._take_spare(A, lent)
        assert len(engine.slots) == 1
        del pool._waiting[A]
        assert pool._take_spare(A, lent)
    assert len(engine.slots) == 2


def test_callers_are_served_in_order_of_arrival() -> None:
    """Also one whose own slot found no memory: it keeps its number."""
    engine = GatedEngine()
    pool = SlotPool(engine, 2)
    engine.opened.release()
    first = Holder(pool, A)
    assert first.has.wait(END_S)
    second = Holder(pool, A)
    for _ in range(2):
        assert engine.started.acquire(timeout=END_S)
    third = Holder(pool, A)
    until(lambda: A in pool._waiting)
    engine.failures.append(OutOfMemoryError("full"))
    engine.opened.release()
    until(lambda: len(pool._waiting[A]) == 2)
    for before, after in ((first, second), (second, third)):
        before.end()
        assert after.has.wait(END_S)
        if after is second:
            assert not third.has.wait(0.2)
    third.end()
    assert len(engine.slots) == 1
    check(pool, engine)


def test_no_memory_for_more(caplog: pytest.LogCaptureFixture) -> None:
    """Without memory for a spare slot a call does with what it has, and it is not tried again."""
    engine = GatedEngine()
    pool = SlotPool(engine, 3)
    engine.opened.release(9)
    engine.failures.extend([OutOfMemoryError("full")])
    with pytest.raises(OutOfMemoryError, match="full"):
        borrow(pool, A)
    check(pool, engine)
    assert borrow(pool, A, 2) == 2
    engine.failures.append(OutOfMemoryError("full"))
    with caplog.at_level(logging.WARNING, "srsdk"):
        assert borrow(pool, A, 3) == 2
        assert borrow(pool, A, 3) == 2
    assert caplog.messages == [f"full; continuing with 2 slot(s) of {A}"]
    check(pool, engine)


class SmallEngine(FakeEngine):
    """Has memory for two slots of a shape."""

    def slot(self, input_shape: tuple[int, ...]) -> FakeSlot:
        """Make a slot or fail."""
        held = [one for one in self.slots if one.input.shape == input_shape and not one.closed]
        if len(held) == 2:
            raise OutOfMemoryError("full")
        return super().slot(input_shape)


def scene(pool: SlotPool) -> None:
    """Make, lend, return, drop and close slots of more shapes than are kept."""
    for shape in SHAPES:
        with pool.lend(shape, 3) as lent:
            pool.release(shape, lent, lent[0])
    borrow(pool, A, 3)
    pool.drop_idle()
    borrow(pool, A, 2)
    pool.close()


class PoolInterrupts(Interrupts):
    """Interrupts of the pool alone."""

    FILES = (slot_pool.__file__, contextlib.__file__)  # type: ignore[assignment]


def interrupted(pool: SlotPool, at: int) -> bool:
    """Play the scene, interrupted at a moment; return whether the moment came."""
    before = sys.getprofile()
    sys.setprofile(PoolInterrupts(at))
    try:
        scene(pool)
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(before)
    return False


@pytest.mark.parametrize("kind", [FakeEngine, SmallEngine])
def test_an_interrupt_at_any_moment_of_a_slot(
    caplog: pytest.LogCaptureFixture, kind: type[FakeEngine]
) -> None:
    """While slots are made, lent, given up and closed: none is lost, and the count is right."""
    caplog.set_level(logging.ERROR, "srsdk")
    at = 1
    while True:
        engine = kind()
        pool = SlotPool(engine, 3)
        came = interrupted(pool, at)
        check(pool, engine)
        if not pool._closed:
            for shape in SHAPES:
                with pool.lend(shape, 3, fail_to_wait) as lent:
                    assert len(lent) == (2 if kind is SmallEngine else 3), at
        pool.close()
        assert pool._made == {}, at
        assert all(slot.closed for slot in engine.slots), at
        if not came:
            break
        at += 1
    assert at > 500


def test_a_waiting_call_closes_what_an_interrupt_left() -> None:
    """Slots that are set aside still count, so a call that waits for their place closes them."""
    engine = FakeEngine()
    pool = SlotPool(engine, 1)
    holder = Holder(pool, A)
    assert holder.has.wait(END_S)
    waiter = Holder(pool, A)
    until(lambda: A in pool._waiting)
    with pool._lock:
        pool.release(A, holder.lent, holder.lent[0])
        pool._keep_idle(0)
    assert waiter.has.wait(END_S)
    assert [slot.closed for slot in engine.slots] == [True, False]
    holder.end()
    waiter.end()
    check(pool, engine)


def test_an_interrupt_within_the_engine() -> None:
    """The place of a slot that was not made is free again."""
    engine = GatedEngine()
    engine.opened.release(9)
    pool = SlotPool(engine, 1)
    for _ in range(2):
        engine.failures.append(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            borrow(pool, A)
        check(pool, engine)
    assert borrow(pool, A) == 1


def test_slots_that_do_not_close() -> None:
    """The error is raised once; the others are closed, and the pool goes on."""
    engine = FakeEngine()
    pool = SlotPool(engine, 3)
    assert borrow(pool, A, 3) == 3
    wrong: Any = engine.slots[1]

    def fail() -> None:
        raise BackendError("the device is gone")

    wrong.close = fail
    with pytest.raises(BackendError, match="gone"):
        pool.drop_idle()
    assert [slot.closed for slot in engine.slots] == [True, False, True]
    assert pool._made == {}
    assert borrow(pool, A, 3) == 3
    pool.close()


class CountingEngine(FakeEngine):
    """Counts the living slots of each shape, and fails now and then."""

    def __init__(self, seed: int, limit: int) -> None:
        super().__init__()
        self.random, self.limit = random.Random(seed), limit
        self.living: Counter[tuple[int, ...]] = Counter()
        self.lock = threading.Lock()

    def slot(self, input_shape: tuple[int, ...]) -> FakeSlot:
        """Make a slot, later."""
        with self.lock:
            self.living[input_shape] += 1
            assert self.living[input_shape] <= self.limit, "too many slots of one shape"
            dice = self.random.random()
        time.sleep(dice / 1000)
        if dice < 0.2:
            self._end(input_shape)
            raise OutOfMemoryError("full") if dice < 0.1 else BackendError("no")
        made = super().slot(input_shape)
        close = made.close

        def once() -> None:
            if not made.closed:
                close()
                self._end(input_shape)

        made.close = once  # type: ignore[method-assign]
        return made

    def _end(self, shape: tuple[int, ...]) -> None:
        with self.lock:
            self.living[shape] -= 1


@pytest.mark.parametrize("seed", range(8))
def test_a_storm_of_threads(seed: int) -> None:
    """Any number of threads and shapes: never above the limit, no slot in two hands, no hang."""
    engine = CountingEngine(seed, limit=2)
    pool = SlotPool(engine, 2)
    held: set[int] = set()
    lock = threading.Lock()

    def hold(shape: Shape, wanted: int, choice: random.Random) -> None:
        with pool.lend(shape, wanted) as lent:
            mine = set(map(id, lent))
            with lock:
                assert not mine & held, "a slot was lent twice"
                held.update(mine)
            time.sleep(choice.random() / 2000)
            with lock:
                held.difference_update(mine)
            if choice.random() < 0.5:
                pool.release(shape, lent, lent[0])

    def work(number: int) -> None:
        choice = random.Random(seed * 100 + number)
        for _ in range(60):
            with suppress(BackendError):
                hold(choice.choice(SHAPES), choice.choice([1, 1, 2, 3]), choice)
            if choice.random() < 0.05:
                pool.drop_idle()

    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(work, number) for number in range(8)]
        assert not wait(futures, END_S).not_done, "it hangs"
    for future in futures:
        future.result()
    check(pool, engine)
    pool.close()
    assert all(slot.closed for slot in engine.slots)
    assert pool._made == {}
    assert not engine.living.total()
