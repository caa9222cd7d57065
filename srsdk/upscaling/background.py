"""Many pictures at once: futures, streams, batches, coroutines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeAlias, TypedDict, TypeVar, Unpack, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from srsdk.budget import Budget
from srsdk.errors import SrsdkError, UsageError
from srsdk.image.arrays import Array
from srsdk.image.streams import Encoded, Target, is_encoded, source_of
from srsdk.options import PictureOptions
from srsdk.scheduling import callbacks
from srsdk.scheduling.context import Call, Progress
from srsdk.scheduling.futures import Workers, window

D = TypeVar("D", bound=np.generic)
Picture: TypeAlias = Array | Image.Image | Encoded
"""What every call takes; see `BaseUpscaler.__call__`."""


class CallOptions(TypedDict, total=False):
    """The keyword arguments of a call."""

    options: PictureOptions | None
    progress: Progress | None
    timeout: float | None


class StreamOptions(TypedDict, total=False):
    """The keyword arguments of `stream`."""

    options: PictureOptions | None
    timeout: float | None
    ahead: int | None


class Background(ABC):
    """Turn one blocking call into futures, streams, batches and coroutines."""

    budget: Budget
    """Limits that the calls share."""
    _workers: Workers

    @property
    def ahead(self) -> int:
        """Number of pictures that `stream` holds at a time by default: one per worker."""
        return self._workers.count

    @overload
    def submit(self, picture: Image.Image, **call: Unpack[CallOptions]) -> Future[Image.Image]: ...
    @overload
    def submit(
        self, picture: npt.NDArray[D], **call: Unpack[CallOptions]
    ) -> Future[npt.NDArray[D]]: ...
    @overload
    def submit(self, picture: Encoded, **call: Unpack[CallOptions]) -> Future[Array]: ...
    @overload
    def submit(self, picture: Picture, **call: Unpack[CallOptions]) -> Future[Any]: ...

    def submit(
        self,
        picture: Any,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Future[Any]:
        """Upscale in the background; return at once.

        Args:
            picture: as for a call; an array must not be modified until the future is done. An open
                file is read before this returns.
            options: as for a call.
            progress: as for a call; called in a worker thread.
            timeout: seconds from now, including the time in the queue.

        Returns:
            A future of the call's result. Its `cancel()` also stops a picture that is being
            computed, within one tile; its `result()` then raises
            `concurrent.futures.CancelledError`.

        Raises:
            BackendError: closed.
            UsageError: an argument that can never work.
        """
        held = _held(picture)
        return self._submit(
            lambda call: self._serve(held(), options, call), options, progress, timeout
        )

    def submit_file(
        self,
        source: Encoded,
        target: Target,
        *,
        options: PictureOptions | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Future[None]:
        """Upscale a picture file into another in the background; return at once.

        Arguments and errors are those of `upscale_file`; the future is that of `submit`. A source
        that is an open file is read before this returns; a target that is an open file has to stay
        open until the future is done.
        """
        held = _held(source)

        def work(call: Call) -> None:
            self._serve_file(held(), target, options, overwrite, call)

        return self._submit(work, options, progress, timeout)

    @overload
    async def aupscale(self, picture: Image.Image, **call: Unpack[CallOptions]) -> Image.Image: ...
    @overload
    async def aupscale(
        self, picture: npt.NDArray[D], **call: Unpack[CallOptions]
    ) -> npt.NDArray[D]: ...
    @overload
    async def aupscale(self, picture: Encoded, **call: Unpack[CallOptions]) -> Array: ...
    @overload
    async def aupscale(
        self, picture: Picture, **call: Unpack[CallOptions]
    ) -> Array | Image.Image: ...

    async def aupscale(
        self,
        picture: Any,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Upscale without blocking the event loop; cancelling the task stops the computation.

        Arguments and errors are those of a call; `progress` is called in a worker thread.
        """
        return await self._awaited(
            partial(self.submit, picture, options=options, progress=progress, timeout=timeout)
        )

    async def aupscale_file(
        self,
        source: Encoded,
        target: Target,
        *,
        options: PictureOptions | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> None:
        """Upscale a picture file into another without blocking the event loop.

        Arguments and errors are those of `upscale_file`; cancelling the task stops the
        computation, and no target is written.
        """
        await self._awaited(
            partial(
                self.submit_file,
                source,
                target,
                options=options,
                overwrite=overwrite,
                progress=progress,
                timeout=timeout,
            )
        )

    @overload
    def stream(
        self, pictures: Iterable[Image.Image], **call: Unpack[StreamOptions]
    ) -> Generator[Image.Image, None, None]: ...
    @overload
    def stream(
        self, pictures: Iterable[npt.NDArray[D]], **call: Unpack[StreamOptions]
    ) -> Generator[npt.NDArray[D], None, None]: ...
    @overload
    def stream(
        self, pictures: Iterable[Encoded], **call: Unpack[StreamOptions]
    ) -> Generator[Array, None, None]: ...
    @overload
    def stream(
        self, pictures: Iterable[Picture], **call: Unpack[StreamOptions]
    ) -> Generator[Array | Image.Image, None, None]: ...

    def stream(
        self,
        pictures: Iterable[Any],
        *,
        options: PictureOptions | None = None,
        timeout: float | None = None,
        ahead: int | None = None,
    ) -> Generator[Any, None, None]:
        """Upscale any number of pictures in order, working ahead while the caller uses a result.

        Args:
            pictures: read lazily, in the caller's thread, at most `ahead` before their result.
            options: as for a call, for each picture.
            timeout: seconds for each picture, from when it is read.
            ahead: pictures held at a time, which bounds memory; None: enough to keep the machine
                busy.

        Yields:
            The result of each picture. Closing the generator stops the rest.

        Raises:
            UsageError: an argument that can never work.
            SrsdkError: the error of the first picture that failed, after the results before it.
        """
        self._check_open()
        is_number = isinstance(ahead, int) and not isinstance(ahead, bool)
        if ahead is not None and (not is_number or ahead < 1):
            raise UsageError(f"ahead is {ahead!r}, expected a positive whole number or None")
        _check_several(pictures)
        _check_options(options)
        Call(None, timeout, self.budget)  # checks the timeout before any picture is read
        submit = partial(self.submit, options=options, timeout=timeout)
        return window(submit, pictures, ahead or self.ahead)

    @overload
    def batch(
        self, pictures: Iterable[Image.Image], **call: Unpack[CallOptions]
    ) -> list[Image.Image]: ...
    @overload
    def batch(
        self, pictures: Iterable[npt.NDArray[D]], **call: Unpack[CallOptions]
    ) -> list[npt.NDArray[D]]: ...
    @overload
    def batch(self, pictures: Iterable[Encoded], **call: Unpack[CallOptions]) -> list[Array]: ...
    @overload
    def batch(
        self, pictures: Iterable[Picture], **call: Unpack[CallOptions]
    ) -> list[Array | Image.Image]: ...

    def batch(
        self,
        pictures: Iterable[Any],
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> list[Any]:
        """Upscale several pictures of any sizes and return all results in order.

        Args:
            pictures: as for a call; one batch may mix arrays, PIL images and files.
            options: as for a call, for each picture.
            progress: called with (pictures done, total); an exception that it raises stops the
                rest.
            timeout: seconds for each picture, from when it is read.

        Raises:
            SrsdkError: the error of the first picture that failed; the others are stopped.
        """
        _check_several(pictures)
        several = list(pictures)
        results: list[Any] = []
        stream: Generator[Any, None, None] = self.stream(several, options=options, timeout=timeout)
        try:
            for result in stream:
                results.append(result)
                if progress is not None:
                    progress(len(results), len(several))
        finally:
            stream.close()
        return results

    @property
    @abstractmethod
    def _owners(self) -> tuple[Workers, ...]:
        """The workers of this object and of all that it calls, by which callbacks know it."""

    @abstractmethod
    def _check_open(self) -> None:
        """Raise if no call can succeed: closed, or in a forked process."""

    @abstractmethod
    def _serve(self, picture: Any, options: PictureOptions | None, call: Call) -> Any:
        """Upscale one picture of any kind."""

    @abstractmethod
    def _serve_file(
        self,
        source: Any,
        target: Target,
        options: PictureOptions | None,
        overwrite: bool,
        call: Call,
    ) -> None:
        """Upscale one file into another."""

    def _call(
        self, options: PictureOptions | None, progress: Progress | None, timeout: float | None
    ) -> Call:
        _check_options(options)
        if progress is not None and not callable(progress):
            raise UsageError(f"progress is {progress!r}, expected a function of (done, total)")
        return Call(callbacks.marked(progress, *self._owners), timeout, self.budget)

    def _submit(
        self,
        work: Callable[[Call], Any],
        options: PictureOptions | None,
        progress: Progress | None,
        timeout: float | None,
    ) -> Future[Any]:
        self._check_open()
        return self._workers.submit(work, self._call(options, progress, timeout))

    async def _awaited(self, submit: Callable[[], Future[Any]]) -> Any:
        # most programs are not asynchronous, and its import takes longer than that of this package
        import asyncio

        for owner in self._owners:
            callbacks.check_wait(owner)
        return await asyncio.wrap_future(submit())


def _check_options(options: object) -> None:
    if options is not None and not isinstance(options, PictureOptions):
        raise UsageError(
            f"options is {options!r}, expected srsdk.PictureOptions(...), such as "
            "srsdk.PictureOptions(width=1920)"
        )


def _check_several(pictures: object) -> None:
    """Refuse a single picture, whose rows or letters would be taken for pictures."""
    is_array = isinstance(pictures, np.ndarray)
    is_one = isinstance(pictures, Image.Image) or is_encoded(pictures)
    if isinstance(pictures, np.ndarray):
        # (N, H, W) is a stack of gray pictures unless it looks like (H, W, channels)
        is_one = pictures.ndim < 3 or (pictures.ndim == 3 and pictures.shape[2] <= 4)
    if is_one or not (is_array or isinstance(pictures, Iterable)):
        raise UsageError(
            f"pictures is one {type(pictures).__name__}, expected several: a list or an iterator "
            "of pictures"
        )


def _held(picture: Any) -> Callable[[], Any]:
    """Read an open file now, while its owner keeps it open; its errors come when it is used."""
    if not is_encoded(picture):
        return lambda: picture
    try:
        source = source_of(picture)
    except SrsdkError as error:
        failure = error

        def fail() -> Any:
            raise failure

        return fail
    return lambda: source
