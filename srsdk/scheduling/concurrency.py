"""Upscale many pictures at once: futures, streams, batches, asyncio."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from srsdk.budget import Budget
from srsdk.errors import UsageError
from srsdk.scheduling import callbacks
from srsdk.scheduling.context import Call, Progress
from srsdk.scheduling.futures import Workers, window

Array = npt.NDArray[np.uint8]
File = str | os.PathLike[str]
Kind = TypeVar("Kind", Array, Image.Image)

SPARE_WORKERS = 2
"""Threads in addition to one per slot: they decode and convert while the slots compute."""


class Concurrent(ABC):
    """Base class that turns one blocking call into futures, streams, batches and coroutines."""

    _workers: Workers
    budget: Budget
    """Limits that the calls share."""

    @property
    def ahead(self) -> int:
        """Number of pictures that `stream` holds at a time by default: one per worker."""
        return self._workers.count

    @abstractmethod
    def _serve(self, picture: Any, call: Call) -> Any:
        """Upscale one picture of any kind."""

    @abstractmethod
    def _check_open(self) -> None:
        """Raise if no call can succeed: closed, or in a forked process."""

    @overload
    def submit(
        self, picture: Kind, *, progress: Progress | None = None, timeout: float | None = None
    ) -> Future[Kind]: ...
    @overload
    def submit(
        self, picture: File, *, progress: Progress | None = None, timeout: float | None = None
    ) -> Future[Array]: ...

    def submit(
        self, picture: Any, *, progress: Progress | None = None, timeout: float | None = None
    ) -> Future[Any]:
        """Upscale in the background; return at once.

        Args:
            picture: as for a call; an array must not be modified until the future is done.
            progress: as for a call; called in a worker thread.
            timeout: seconds from now, including the time in the queue.

        Returns:
            A future of the call's result. Its `cancel()` also stops a picture that is being
            computed, within one tile; its `result()` then raises
            `concurrent.futures.CancelledError`.

        Raises:
            BackendError: closed.
        """
        self._check_open()
        reported = callbacks.marked(progress, self._workers)
        call = Call(reported, timeout, self.budget)
        return self._workers.submit(lambda call: self._serve(picture, call), call)

    def _begin(self, progress: Progress | None, timeout: float | None) -> Call:
        """Begin a call that this thread waits for.

        Raises:
            UsageError: in a progress callback of the same object.
        """
        callbacks.check_call(self._workers)
        return Call(callbacks.marked(progress, self._workers), timeout, self.budget)

    @overload
    async def aupscale(
        self, picture: Kind, *, progress: Progress | None = None, timeout: float | None = None
    ) -> Kind: ...
    @overload
    async def aupscale(
        self, picture: File, *, progress: Progress | None = None, timeout: float | None = None
    ) -> Array: ...

    async def aupscale(
        self, picture: Any, *, progress: Progress | None = None, timeout: float | None = None
    ) -> Any:
        """Upscale without blocking the event loop; cancelling the task stops the computation.

        Arguments and errors are those of a call; `progress` is called in a worker thread.
        """
        import asyncio

        callbacks.check_wait(self._workers)
        future = self.submit(picture, progress=progress, timeout=timeout)
        return await asyncio.wrap_future(future)

    @overload
    def stream(
        self, pictures: Iterable[Kind], *, ahead: int | None = None
    ) -> Generator[Kind, None, None]: ...
    @overload
    def stream(
        self, pictures: Iterable[File], *, ahead: int | None = None
    ) -> Generator[Array, None, None]: ...

    def stream(
        self, pictures: Iterable[Any], *, ahead: int | None = None
    ) -> Generator[Any, None, None]:
        """Upscale any number of pictures in order, working ahead while the caller uses a result.

        Args:
            pictures: read lazily, in the caller's thread, at most `ahead` before their result.
            ahead: pictures held at a time, which bounds memory; None: enough to keep the machine
                busy.

        Yields:
            The result of each picture. Closing the generator stops the rest.

        Raises:
            UsageError: `ahead` is below 1.
            SrsdkError: the error of the first picture that failed, after the results before it.
        """
        self._check_open()
        if ahead is not None and (not isinstance(ahead, int) or ahead < 1):
            raise UsageError(f"ahead is {ahead!r}, expected a positive whole number or None")
        return window(self.submit, pictures, ahead or self.ahead)

    @overload
    def batch(
        self, pictures: Iterable[Kind], *, progress: Progress | None = None
    ) -> list[Kind]: ...
    @overload
    def batch(
        self, pictures: Iterable[File], *, progress: Progress | None = None
    ) -> list[Array]: ...

    def batch(self, pictures: Iterable[Any], *, progress: Progress | None = None) -> list[Any]:
        """Upscale several pictures of any sizes and return all results in order.

        Args:
            pictures: as for a call.
            progress: called with (pictures done, total); an exception that it raises stops the
                rest.

        Raises:
            SrsdkError: the error of the first picture that failed; the others are stopped.
        """
        several = list(pictures)
        results: list[Any] = []
        stream: Generator[Any, None, None] = self.stream(several)
        try:
            for result in stream:
                results.append(result)
                if progress is not None:
                    progress(len(results), len(several))
        finally:
            stream.close()
        return results
