"""Futures that cancel running work, the threads that run them, and a bounded in-order window."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from srsdk.errors import BackendError
from srsdk.scheduling import callbacks
from srsdk.scheduling.context import Call
from srsdk.scheduling.waiting import result_of
from srsdk.system import threads

T = TypeVar("T")
S = TypeVar("S")


class PictureFuture(Future[T]):
    """A `concurrent.futures.Future` whose `cancel` also stops running work, within one tile."""

    def __init__(self, call: Call, owner: object) -> None:
        super().__init__()
        self._call = call
        self._owner = owner
        self._settle_lock = threading.Lock()
        self._settled = False

    def cancel(self) -> bool:
        """Cancel it, running or not; return False if it is already done."""
        if super().cancel():
            return True
        with self._settle_lock:
            if not self._settled:
                self._call.cancel()
            return self._call.cancelled

    def cancelled(self) -> bool:
        """Return whether it was cancelled, before it started or while it ran."""
        return super().cancelled() or (self.done() and self._call.cancelled)

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result.

        Raises:
            UsageError: not done, and waited for in a callback of the same Upscaler.
        """
        if not self.done():
            callbacks.check_wait(self._owner)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the exception; see `result`."""
        if not self.done():
            callbacks.check_wait(self._owner)
        return super().exception(timeout)

    def run(self, work: Callable[[Call], T]) -> None:
        """Run the work and store its result or exception; called once, in a worker."""
        if not self.set_running_or_notify_cancel():
            return
        with callbacks.serving(self._owner):
            try:
                result = work(self._call)
            except BaseException as error:
                self._settle(partial(self.set_exception, error))
            else:
                self._settle(partial(self.set_result, result))

    def _settle(self, keep: Callable[[], None]) -> None:
        with self._settle_lock:
            self._settled = True
        # a cancel after the last tile counts too: it has returned True to its caller
        if self._call.cancelled:
            self.set_exception(CancelledError())
        else:
            keep()


class Workers:
    """Threads that run calls; started with the first call."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, work: Callable[[Call], T], call: Call) -> Future[T]:
        """Run `work(call)` in a worker.

        Raises:
            BackendError: closed, or the system refuses to start the threads.
        """
        future: PictureFuture[T] = PictureFuture(call, self)
        with self._lock:
            if self._closed:
                raise BackendError("this Upscaler is closed")
            if self._pool is None:
                self._pool = threads.started_pool(self.count, "srsdk")
            inner = self._pool.submit(future.run, work)
        # only `close` cancels the inner future; pass that on to those who wait for ours
        inner.add_done_callback(lambda done: future.cancel() if done.cancelled() else None)
        return future

    def close(self) -> None:
        """Cancel queued calls and wait for running ones."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            with callbacks.serving(self):  # cancelled calls run their callbacks here
                pool.shutdown(wait=True, cancel_futures=True)


def window(
    submit: Callable[[S], Future[T]], sources: Iterable[S], ahead: int
) -> Generator[T, None, None]:
    """Yield the results of `submit` in order, with at most `ahead` in flight.

    An exception of `sources` is raised after the results of the items before it.
    """
    waiting: deque[Future[T]] = deque()
    pull = _Pull(iter(sources))
    try:
        while True:
            while len(waiting) < ahead and pull.next():
                waiting.append(submit(pull.value))
            if not waiting:
                pull.finish()
                return
            yield result_of(waiting.popleft())
    finally:
        for future in waiting:
            future.cancel()


class _Pull(Generic[S]):
    """An iterator that holds back its exception until `finish`."""

    value: S

    def __init__(self, source: Iterator[S]) -> None:
        self._source = source
        self._ended = False
        self._failure: Exception | None = None

    def next(self) -> bool:
        """Fetch the next `value`; return False at the end."""
        if self._ended:
            return False
        try:
            self.value = next(self._source)
        except StopIteration:
            self._ended = True
        except Exception as error:  # raised by `finish`
            self._ended, self._failure = True, error
        return not self._ended

    def finish(self) -> None:
        """Raise the source's exception, if there was one."""
        if self._failure is not None:
            raise self._failure
