"""The primary context of a GPU, which torch, CuPy, ONNX Runtime and TensorRT use, too.

A process retains it once and never releases it, as the CUDA runtime does: libraries may still hold
memory in it when the last Upscaler is closed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from srsdk.engines.cuda import driver
from srsdk.errors import BackendError, DeviceLostError

log = logging.getLogger("srsdk")

_contexts: dict[int, PrimaryContext] = {}
_lock = threading.Lock()


class PrimaryContext:
    """The primary context of one GPU; made by `of`.

    Args:
        index: index of the GPU.
        handle: of the context.
    """

    def __init__(self, index: int, handle: Any) -> None:
        self.name = f"cuda:{index}"
        self.index = index
        self._handle = handle
        self._process = os.getpid()
        self._pool: Any = None
        self._lock = threading.Lock()
        self.lost: DeviceLostError | None = None
        """The error after which nothing works in this context any more."""

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this the thread's current context; the previous one returns afterwards.

        Raises:
            BackendError: this process is a fork of the one that made it.
            DeviceLostError: an earlier error has made it useless.
        """
        if os.getpid() != self._process:
            raise BackendError(
                f"{self.name} was opened in process {self._process} and does not survive a fork "
                f"(this is process {os.getpid()}): use multiprocessing's start method 'spawn'"
            )
        self.raise_if_lost()
        cuda = driver.load()
        self.check(cuda.cuCtxPushCurrent(self._handle))
        try:
            yield
        finally:
            # it may report an error of work that is under way, of which `lost` then knows
            with suppress(DeviceLostError):
                self.check(cuda.cuCtxPopCurrent())

    def check(self, answer: tuple[Any, ...], what: str = "") -> Any:
        """Return the results of a driver call, or raise the translated error; see `driver.check`.

        After the first sticky error, `lost` has it.
        """
        try:
            return driver.check(answer, self.name, what)
        except DeviceLostError as error:
            if self.lost is None:
                self.lost = error
                log.error("%s", error)
            raise

    @property
    def is_usable(self) -> bool:
        """Whether calls can succeed: not lost, and not in a fork of the process that made it."""
        return self.lost is None and os.getpid() == self._process

    def raise_if_lost(self) -> None:
        """Raise the error that has made the context useless, if there is one.

        Raises:
            DeviceLostError: see there.
        """
        if self.lost is not None:
            raise DeviceLostError(str(self.lost)) from self.lost

    @property
    def pool(self) -> Any:
        """The pool of srsdk's stream-ordered memory; None: this GPU has none.

        It keeps what is freed for the next allocation, until `trim`.
        """
        with self._lock:
            if self._pool is None and self._has_pools():
                self._pool = self._make_pool()
        return self._pool

    def trim(self) -> None:
        """Give memory that the pool holds and nobody uses back to the driver."""
        if self._pool is not None and self.is_usable:
            self.check(driver.load().cuMemPoolTrimTo(self._pool, 0))

    def idle_bytes(self) -> int:
        """Return how many bytes the pool holds that nobody uses."""
        if self._pool is None:
            return 0
        cuda = driver.load()
        kinds = cuda.CUmemPool_attribute
        reserved, used = (
            int(self.check(cuda.cuMemPoolGetAttribute(self._pool, kind)))
            for kind in (
                kinds.CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT,
                kinds.CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
            )
        )
        return max(0, reserved - used)

    def is_current_or_none(self) -> bool:
        """Return whether the thread's current context is this one, or there is none."""
        current = int(self.check(driver.load().cuCtxGetCurrent()))
        return current in (0, int(self._handle))

    def _has_pools(self) -> bool:
        cuda = driver.load()
        kind = cuda.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED
        return bool(self.check(cuda.cuDeviceGetAttribute(kind, self.index)))

    def _make_pool(self) -> Any:
        cuda = driver.load()
        wanted = cuda.CUmemPoolProps()
        wanted.allocType = cuda.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        wanted.location.type = cuda.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        wanted.location.id = self.index
        made = self.check(cuda.cuMemPoolCreate(wanted))
        # the default gives everything back whenever a stream is synchronized
        kind = cuda.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        self.check(cuda.cuMemPoolSetAttribute(made, kind, cuda.cuuint64_t(2**64 - 1)))
        return made


def of(index: int) -> PrimaryContext:
    """Return the primary context of a GPU, and make it if this process has not used it.

    Raises:
        DeviceLostError: an earlier error has made it useless.
        OutOfMemoryError: not enough device memory for a context.
    """
    with _lock:
        found = _contexts.get(index)
        if found is None:
            handle = driver.check(
                driver.load().cuDevicePrimaryCtxRetain(index), f"cuda:{index}", "the CUDA context"
            )
            found = _contexts[index] = PrimaryContext(index, handle)
    found.raise_if_lost()
    return found
