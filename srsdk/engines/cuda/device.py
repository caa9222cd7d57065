"""CUDA memory, streams, events and graphs of one GPU.

Everything is in the device's primary context. Handles are plain integers.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from srsdk.engines.cuda import context, driver
from srsdk.engines.cuda.driver import device_count
from srsdk.errors import DeviceLostError, SrsdkError, UsageError

LEGACY_STREAM = 1
"""Handle of the legacy default stream, which waits for every blocking stream; 0 is this one or that
of the thread, depending on how a program was compiled."""


class Owned:
    """A CUDA resource: an integer handle or address, and the call that releases it."""

    def __init__(self, handle: int, release: Callable[[int], None], size_bytes: int = 0) -> None:
        self.handle = handle
        self.size_bytes = size_bytes
        self._release: Callable[[int], None] | None = release

    def close(self) -> None:
        """Release the resource; safe to call again."""
        release, self._release = self._release, None
        if release is not None:
            release(self.handle)


@dataclass(frozen=True)
class Properties:
    """Properties of a GPU."""

    name: str
    """Name, such as `NVIDIA RTX A4000`."""
    sm: int
    """GPU generation: 86 is compute capability 8.6."""
    total_bytes: int
    """Total memory."""
    driver: str
    """Newest CUDA version that the driver supports, such as `13.0`."""


class Device:
    """One GPU in its primary context.

    Args:
        index: as in `cuda:0`, in the driver's order (`CUDA_VISIBLE_DEVICES`).

    Raises:
        UsageError: no such device.
        NoDriverError: no driver or no GPU.
        DeviceLostError: an earlier error in this process has made it useless.
    """

    def __init__(self, index: int) -> None:
        count = device_count()
        if not 0 <= index < count:
            existing = ", ".join(f"cuda:{i}" for i in range(count))
            raise UsageError(f"device cuda:{index} does not exist, this machine has {existing}")
        self._cuda = driver.load()
        self.index = index
        self.name = f"cuda:{index}"
        self._context = context.of(index)
        self.properties = self._properties()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make this the thread's current device; the previous context returns afterwards.

        Raises:
            BackendError: this process is a fork of the one that opened the device.
        """
        with self._context.current():
            yield

    @contextmanager
    def releasing(self) -> Iterator[None]:
        """Like `active`, to release resources; a lost device is no error.

        Of a device that is not usable nothing can be released, and `Owned.close` does nothing.
        """
        with suppress(DeviceLostError), ExitStack() as stack:
            if self.is_usable:
                # making it current may be the first call to learn that the device is lost
                with suppress(DeviceLostError):
                    stack.enter_context(self._context.current())
            yield

    @property
    def is_usable(self) -> bool:
        """Whether calls can succeed: not lost, and not in a fork of the process that opened it."""
        return self._context.is_usable

    def raise_if_lost(self) -> None:
        """Check that the device can be used.

        Raises:
            DeviceLostError: an error has made it useless in this process.
        """
        self._context.raise_if_lost()

    def is_current_or_none(self) -> bool:
        """Return whether the thread's current context is the primary one, or there is none."""
        return self._context.is_current_or_none()

    def memory(self) -> tuple[int, int]:
        """Return (free, total) device bytes. Needs `active`, as do the methods below."""
        free, total = self._check(self._cuda.cuMemGetInfo())
        return int(free) + self._context.idle_bytes(), int(total)

    def stream(self) -> Owned:
        """Make a stream that does not wait for the default stream."""
        flags = self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING
        made = self._check(self._cuda.cuStreamCreate(int(flags)))
        return self._owned(made, self._cuda.cuStreamDestroy)

    def event(self, *, timed: bool = False) -> Owned:
        """Make an event; a host thread that waits for it sleeps instead of spinning.

        Args:
            timed: for `elapsed_ms`; events without times cost less.
        """
        kinds = self._cuda.CUevent_flags
        flags = int(kinds.CU_EVENT_BLOCKING_SYNC)
        flags |= 0 if timed else int(kinds.CU_EVENT_DISABLE_TIMING)
        return self._owned(self._check(self._cuda.cuEventCreate(flags)), self._cuda.cuEventDestroy)

    def allocate(self, size_bytes: int) -> Owned:
        """Allocate device memory, aligned to at least 256 bytes. Releasing it waits for the GPU.

        Raises:
            OutOfMemoryError: not enough memory.
        """
        size_bytes = max(size_bytes, 1)
        what = f"{size_bytes:,} bytes on {self.name}"
        address = self._check(self._cuda.cuMemAlloc(size_bytes), what)
        return self._owned(address, self._cuda.cuMemFree, size_bytes)

    def allocate_on(self, stream: int, size_bytes: int) -> Owned:
        """Allocate device memory in the order of a stream; nothing waits.

        Use it on other streams only after an event of this one. It is released in the order of
        the stream, too, which must still exist then.

        Raises:
            OutOfMemoryError: not enough memory.
        """
        pool = self._context.pool
        if pool is None:
            return self.allocate(size_bytes)
        size_bytes = max(size_bytes, 1)
        what = f"{size_bytes:,} bytes on {self.name}"
        address = self._check(self._cuda.cuMemAllocFromPoolAsync(size_bytes, pool, stream), what)
        return self._owned(address, lambda it: self._cuda.cuMemFreeAsync(it, stream), size_bytes)

    def trim(self) -> None:
        """Give stream-ordered memory that nobody uses back to the driver."""
        self._context.trim()

    def pinned(self, size_bytes: int, *, write_combined: bool = False) -> Owned:
        """Allocate page-locked host memory, which copies at full speed and asynchronously.

        Write-combined memory is faster to copy from but very slow to read on the host.

        Raises:
            OutOfMemoryError: not enough memory.
        """
        size_bytes = max(size_bytes, 1)
        flags = self._cuda.CU_MEMHOSTALLOC_PORTABLE
        if write_combined:
            flags |= self._cuda.CU_MEMHOSTALLOC_WRITECOMBINED
        what = f"{size_bytes:,} bytes of page-locked host memory"
        address = self._check(self._cuda.cuMemHostAlloc(size_bytes, flags), what)
        return self._owned(address, self._cuda.cuMemFreeHost, size_bytes)

    def copy_in(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Enqueue a copy from the host to the device."""
        self._check(self._cuda.cuMemcpyHtoDAsync(target, source, size_bytes, stream))

    def copy_out(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Enqueue a copy from the device to the host."""
        self._check(self._cuda.cuMemcpyDtoHAsync(target, source, size_bytes, stream))

    def copy_rows(
        self, target: tuple[int, int], source: tuple[int, int], width_bytes: int, rows: int,
        stream: int,
    ) -> None:  # fmt: skip
        """Enqueue a 2D copy in any direction; target and source are (address, pitch in bytes)."""
        what = self._cuda.CUDA_MEMCPY2D()
        what.srcMemoryType = what.dstMemoryType = self._cuda.CUmemorytype.CU_MEMORYTYPE_UNIFIED
        what.dstDevice, what.dstPitch = target
        what.srcDevice, what.srcPitch = source
        what.WidthInBytes, what.Height = width_bytes, rows
        self._check(self._cuda.cuMemcpy2DAsync(what, stream))

    def clear(self, target: int, size_bytes: int, stream: int) -> None:
        """Enqueue filling memory with zeros."""
        self._check(self._cuda.cuMemsetD8Async(target, 0, size_bytes, stream))

    def record(self, event: int, stream: int) -> None:
        """Enqueue an event, which happens when the stream reaches it."""
        self._check(self._cuda.cuEventRecord(event, stream))

    def order(self, stream: int, event: int) -> None:
        """Make a stream wait for an event."""
        self._check(self._cuda.cuStreamWaitEvent(stream, event, 0))

    def wait(self, event: int) -> None:
        """Block until an event has happened."""
        self._check(self._cuda.cuEventSynchronize(event))

    def drain(self, stream: int) -> None:
        """Block until a stream has finished all its work."""
        self._check(self._cuda.cuStreamSynchronize(stream))

    def synchronize(self) -> None:
        """Block until the device has finished all work; other threads may capture meanwhile."""
        relaxed = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        before = self._check(self._cuda.cuThreadExchangeStreamCaptureMode(relaxed))
        try:
            self._check(self._cuda.cuCtxSynchronize())
        finally:
            self._check(self._cuda.cuThreadExchangeStreamCaptureMode(before))

    def elapsed_ms(self, start: int, end: int) -> float:
        """Return the milliseconds between two timed events that have happened."""
        return float(self._check(self._cuda.cuEventElapsedTime(start, end)))

    def is_capturing(self, stream: int) -> bool:
        """Return whether a stream records a CUDA graph, or would disturb one that is recorded."""
        code, status = self._cuda.cuStreamIsCapturing(stream)
        if code == self._cuda.CUresult.CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
            return True
        return bool(int(self._check((code, status))))

    def capture(self, stream: int, work: Callable[[], None]) -> Owned:
        """Record what `work` enqueues on a stream as a CUDA graph, without running it."""
        # thread-local: CUDA calls of other threads must not invalidate the capture
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._check(self._cuda.cuStreamBeginCapture(stream, mode))
        try:
            work()
        except BaseException:
            with suppress(SrsdkError):
                self._check(self._cuda.cuGraphDestroy(self._end_capture(stream)))
            raise
        graph = self._end_capture(stream)
        try:
            made = self._check(self._cuda.cuGraphInstantiate(graph, 0))
        finally:
            self._check(self._cuda.cuGraphDestroy(graph))
        return self._owned(made, self._cuda.cuGraphExecDestroy)

    def launch(self, graph: int, stream: int) -> None:
        """Enqueue a captured graph."""
        self._check(self._cuda.cuGraphLaunch(graph, stream))

    def _properties(self) -> Properties:
        kinds = self._cuda.CUdevice_attribute
        major, minor = (
            self._check(self._cuda.cuDeviceGetAttribute(kind, self.index))
            for kind in (
                kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        name = self._check(self._cuda.cuDeviceGetName(256, self.index))
        return Properties(
            name.decode(errors="replace").rstrip("\0"),
            10 * int(major) + int(minor),
            int(self._check(self._cuda.cuDeviceTotalMem(self.index))),
            driver.version_text(driver.driver_version()),
        )

    def _end_capture(self, stream: int) -> Any:
        return self._check(self._cuda.cuStreamEndCapture(stream))

    def _check(self, answer: tuple[Any, ...], what: str = "") -> Any:
        return self._context.check(answer, what)

    def _owned(
        self, made: Any, release: Callable[[int], tuple[Any, ...]], size_bytes: int = 0
    ) -> Owned:
        return Owned(int(made), lambda it: self._released(release, it), size_bytes)

    def _released(self, release: Callable[[int], tuple[Any, ...]], handle: int) -> None:
        # what is not released here is released by the driver when the process ends
        if not self.is_usable:
            return
        with suppress(DeviceLostError):
            self._check(release(handle))


def view(memory: Owned, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Return host memory as an array, without taking ownership."""
    raw = (ctypes.c_uint8 * memory.size_bytes).from_address(memory.handle)
    size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    content: npt.NDArray[Any] = np.ctypeslib.as_array(raw)[:size_bytes]
    return content.view(dtype).reshape(shape)
