"""Compute streams: run the networks of several slots one after the other, with shared scratch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from srsdk.engines.cuda.device import Device, Owned
from srsdk.errors import SrsdkError

log = logging.getLogger("srsdk")


class ComputeStream:
    """A CUDA stream on which networks run one after the other, and their shared scratch memory."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.lock = threading.Lock()
        """Held while a network is enqueued: the kernels of two networks must not interleave."""
        with device.active():
            self.stream = device.stream()
        self._scratch: list[tuple[Owned, list[object]]] = []

    def share(self, size_bytes: int, user: object) -> int:
        """Return the address of scratch memory, shared by all users for whom it is large enough."""
        with self.lock, self._device.active():
            for memory, users in self._scratch:
                if memory.size_bytes >= size_bytes:
                    users.append(user)
                    return memory.handle
            memory = self._device.allocate(size_bytes)
            self._scratch.append((memory, [user]))
            return memory.handle

    def has(self, size_bytes: int) -> bool:
        """Return whether `share` can be served without new memory."""
        return any(memory.size_bytes >= size_bytes for memory, _ in list(self._scratch))

    @property
    def held_bytes(self) -> int:
        """Bytes of allocated scratch memory."""
        # a copy, because `leave` replaces the list meanwhile
        return sum(memory.size_bytes for memory, _ in list(self._scratch))

    def leave(self, user: object) -> None:
        """Remove a user; free scratch memory without users."""
        with self.lock, self._device.releasing():
            for memory, users in self._scratch:
                if user in users:
                    users.remove(user)
                if not users:
                    release_all([memory])
            self._scratch = [(memory, users) for memory, users in self._scratch if users]

    def close(self) -> None:
        """Release the stream and the scratch memory."""
        with self._device.releasing():
            release_all([memory for memory, _ in self._scratch] + [self.stream])
        self._scratch.clear()


def make_compute_streams(device: Device, count: int) -> list[ComputeStream]:
    """Make `count` compute streams; if one fails, close the others."""
    compute_streams: list[ComputeStream] = []
    try:
        for _ in range(count):
            compute_streams.append(ComputeStream(device))  # noqa: PERF401 - must be closed on failure
    except BaseException:
        for compute_stream in compute_streams:
            compute_stream.close()
        raise
    return compute_streams


def release_all(resources: Iterable[Owned]) -> None:
    """Close all resources; log errors, so that one failure does not leak the others."""
    for resource in resources:
        try:
            resource.close()
        except SrsdkError as error:
            log.warning("while releasing GPU memory: %s", error)
