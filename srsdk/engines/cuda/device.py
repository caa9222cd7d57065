"""CUDA memory, streams, events and graphs: the only module that calls the CUDA runtime.

Everything uses the device's primary context, as torch, CuPy, ONNX Runtime and TensorRT do. Handles
are plain integers. All CUDA errors are translated in `Device._unwrap`.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from srsdk.errors import BackendError, OutOfMemoryError, SrsdkError, UsageError

LEGACY_STREAM = 1
"""Handle of the legacy default stream (`cudaStreamLegacy`), which waits for every blocking stream;
0 is another stream in programs compiled for per-thread default streams."""

_NO_DRIVER = ("cudaErrorInsufficientDriver", "cudaErrorNoDevice", "cudaErrorStubLibrary")


class NoDriverError(BackendError):
    """No NVIDIA driver, a driver that is too old, or no GPU."""


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


def load_runtime() -> Any:
    """Import the CUDA runtime bindings, `cuda.bindings.runtime`.

    Raises:
        BackendError: cuda-bindings is not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendError(
            f"running on a GPU needs cuda-bindings, which is not installed ({error}): "
            "pip install 'cuda-bindings>=13'"
        ) from error
    return runtime


def device_count(runtime: Any) -> int:
    """Return how many GPUs the driver finds.

    Raises:
        NoDriverError: no driver, a driver that is too old, or no GPU.
    """
    error, count = runtime.cudaGetDeviceCount()
    if error != 0 or not count:
        raise _no_driver(runtime, error)
    return int(count)


class Device:
    """One GPU in its primary context.

    Args:
        index: as in `cuda:0`, in the driver's order (`CUDA_VISIBLE_DEVICES`).
        runtime: `cuda.bindings.runtime`, or its replacement in a test.

    Raises:
        UsageError: no such device.
        NoDriverError: no driver or no GPU.
    """

    def __init__(self, index: int, runtime: Any = None) -> None:
        self._cuda = load_runtime() if runtime is None else runtime
        count = device_count(self._cuda)
        if not 0 <= index < count:
            existing = ", ".join(f"cuda:{i}" for i in range(count))
            raise UsageError(f"device cuda:{index} does not exist, this machine has {existing}")
        self.index = index
        self.name = f"cuda:{index}"
        found = self._unwrap(self._cuda.cudaGetDeviceProperties(index))
        version = self._unwrap(self._cuda.cudaDriverGetVersion())
        self.properties = Properties(
            _text(found.name),
            10 * found.major + found.minor,
            int(found.totalGlobalMem),
            f"{version // 1000}.{version % 1000 // 10}",
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make this the thread's current device, and restore the previous one afterwards."""
        before = self._unwrap(self._cuda.cudaGetDevice())
        self._unwrap(self._cuda.cudaSetDevice(self.index))
        try:
            yield
        finally:
            if before != self.index:
                self._unwrap(self._cuda.cudaSetDevice(before))

    def memory(self) -> tuple[int, int]:
        """Return (free, total) device bytes. Needs `active`, as do the methods below."""
        free, total = self._unwrap(self._cuda.cudaMemGetInfo())
        return int(free), int(total)

    def stream(self) -> Owned:
        """Make a stream that does not wait for the default stream."""
        made = self._unwrap(self._cuda.cudaStreamCreateWithFlags(self._cuda.cudaStreamNonBlocking))
        return Owned(int(made), lambda it: self._unwrap(self._cuda.cudaStreamDestroy(it)))

    def event(self) -> Owned:
        """Make an event; a host thread that waits for it sleeps instead of spinning."""
        made = self._unwrap(self._cuda.cudaEventCreateWithFlags(self._cuda.cudaEventBlockingSync))
        return Owned(int(made), lambda it: self._unwrap(self._cuda.cudaEventDestroy(it)))

    def allocate(self, size_bytes: int) -> Owned:
        """Allocate device memory, aligned to at least 256 bytes.

        Raises:
            OutOfMemoryError: not enough memory.
        """
        what = f"{size_bytes:,} bytes on {self.name}"
        address = self._unwrap(self._cuda.cudaMalloc(max(size_bytes, 1)), what)
        return Owned(
            int(address), lambda it: self._unwrap(self._cuda.cudaFree(it)), max(size_bytes, 1)
        )

    def pinned(self, size_bytes: int, *, write_combined: bool = False) -> Owned:
        """Allocate page-locked host memory, which copies at full speed and asynchronously.

        Write-combined memory is faster to copy from but very slow to read on the host.

        Raises:
            OutOfMemoryError: not enough memory.
        """
        flags = self._cuda.cudaHostAllocPortable
        if write_combined:
            flags |= self._cuda.cudaHostAllocWriteCombined
        what = f"{size_bytes:,} bytes of page-locked host memory"
        address = self._unwrap(self._cuda.cudaHostAlloc(max(size_bytes, 1), flags), what)
        return Owned(
            int(address), lambda it: self._unwrap(self._cuda.cudaFreeHost(it)), max(size_bytes, 1)
        )

    def copy_in(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Enqueue a copy from the host to the device."""
        self._copy(target, source, size_bytes, "cudaMemcpyHostToDevice", stream)

    def copy_out(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Enqueue a copy from the device to the host."""
        self._copy(target, source, size_bytes, "cudaMemcpyDeviceToHost", stream)

    def copy_rows(
        self, target: tuple[int, int], source: tuple[int, int], width_bytes: int, rows: int,
        stream: int,
    ) -> None:  # fmt: skip
        """Enqueue a 2D copy in any direction; target and source are (address, pitch in bytes)."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDefault
        self._unwrap(
            self._cuda.cudaMemcpy2DAsync(*target, *source, width_bytes, rows, kind, stream)
        )

    def clear(self, target: int, size_bytes: int, stream: int) -> None:
        """Enqueue filling memory with zeros."""
        self._unwrap(self._cuda.cudaMemsetAsync(target, 0, size_bytes, stream))

    def record(self, event: int, stream: int) -> None:
        """Enqueue an event, which happens when the stream reaches it."""
        self._unwrap(self._cuda.cudaEventRecord(event, stream))

    def order(self, stream: int, event: int) -> None:
        """Make a stream wait for an event."""
        self._unwrap(self._cuda.cudaStreamWaitEvent(stream, event, 0))

    def wait(self, event: int) -> None:
        """Block until an event has happened."""
        self._unwrap(self._cuda.cudaEventSynchronize(event))

    def drain(self, stream: int) -> None:
        """Block until a stream has finished all its work."""
        self._unwrap(self._cuda.cudaStreamSynchronize(stream))

    def elapsed_ms(self, start: int, end: int) -> float:
        """Return the milliseconds between two events that have happened."""
        return float(self._unwrap(self._cuda.cudaEventElapsedTime(start, end)))

    def capture(self, stream: int, work: Callable[[], None]) -> Owned:
        """Record what `work` enqueues on a stream as a CUDA graph, without running it."""
        # thread-local: CUDA calls of other threads must not invalidate the capture
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._unwrap(self._cuda.cudaStreamBeginCapture(stream, mode))
        try:
            work()
        except BaseException:
            with suppress(SrsdkError):
                self._unwrap(self._cuda.cudaGraphDestroy(self._end_capture(stream)))
            raise
        graph = self._end_capture(stream)
        try:
            made = self._unwrap(self._cuda.cudaGraphInstantiate(graph, 0))
        finally:
            self._unwrap(self._cuda.cudaGraphDestroy(graph))
        return Owned(int(made), lambda it: self._unwrap(self._cuda.cudaGraphExecDestroy(it)))

    def launch(self, graph: int, stream: int) -> None:
        """Enqueue a captured graph."""
        self._unwrap(self._cuda.cudaGraphLaunch(graph, stream))

    def _copy(self, target: int, source: int, size_bytes: int, kind: str, stream: int) -> None:
        which = getattr(self._cuda.cudaMemcpyKind, kind)
        self._unwrap(self._cuda.cudaMemcpyAsync(target, source, size_bytes, which, stream))

    def _end_capture(self, stream: int) -> Any:
        return self._unwrap(self._cuda.cudaStreamEndCapture(stream))

    def _unwrap(self, answer: tuple[Any, ...], what: str = "") -> Any:
        """Return the results of a CUDA call, or raise the translated error."""
        error, *values = answer
        if error == 0:
            return values[0] if len(values) == 1 else tuple(values)
        # clear the error, so that the next caller does not see it
        self._cuda.cudaGetLastError()
        name = str(getattr(error, "name", error))
        if name in _NO_DRIVER:
            raise _no_driver(self._cuda, error)
        if name == "cudaErrorMemoryAllocation":
            raise OutOfMemoryError(f"out of memory: {what or 'an allocation inside a library'}")
        _, text = self._cuda.cudaGetErrorString(error)
        raise BackendError(f"CUDA failed on {self.name}: {name}: {_text(text)}")


def view(memory: Owned, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Return host memory as an array, without taking ownership."""
    raw = (ctypes.c_uint8 * memory.size_bytes).from_address(memory.handle)
    size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    content: npt.NDArray[Any] = np.ctypeslib.as_array(raw)[:size_bytes]
    return content.view(dtype).reshape(shape)


def _no_driver(runtime: Any, error: Any) -> NoDriverError:
    _, supported = runtime.cudaDriverGetVersion()
    _, needed = runtime.cudaRuntimeGetVersion()
    code = f"{getattr(error, 'name', 'no device')} ({int(error)})"
    if supported and supported < needed // 1000 * 1000:
        return NoDriverError(
            f"the NVIDIA driver supports CUDA {supported // 1000}.{supported % 1000 // 10}, "
            f"expected {needed // 1000}.0 or newer ({code}): update the driver"
        )
    if supported:
        return NoDriverError(f"the NVIDIA driver finds no GPU ({code}): check nvidia-smi")
    return NoDriverError(
        f"no CUDA driver on this machine ({code}): install the NVIDIA driver, or use an .onnx "
        "model with device='cpu'"
    )


def _text(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.rstrip("\0")
