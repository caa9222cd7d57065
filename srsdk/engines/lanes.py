"""Lanes: where the networks of several slots compute one after the other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from srsdk.engines.cuda import Device, Owned
from srsdk.errors import SrsdkError

log = logging.getLogger("srsdk")


class Lane:
    """A stream on which networks compute one after the other, and the scratch that they share."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.lock = threading.Lock()
        """Held while something is enqueued: two networks must not interleave their kernels."""
        with device.active():
            self.stream = device.stream()
        self._scratch: list[tuple[Owned, list[object]]] = []

    def share(self, size_bytes: int, user: object) -> int:
        """Return the address of scratch memory, the same for all users whom it is large enough."""
        with self.lock, self._device.active():
            for memory, users in self._scratch:
                if memory.size_bytes >= size_bytes:
                    users.append(user)
                    return memory.handle
            memory = self._device.allocate(size_bytes)
            self._scratch.append((memory, [user]))
            return memory.handle

    def has(self, size_bytes: int) -> bool:
        """Say whether `share` would need no new memory."""
        return any(memory.size_bytes >= size_bytes for memory, _ in self._scratch)

    @property
    def held_bytes(self) -> int:
        """Scratch memory that is allocated."""
        return sum(memory.size_bytes for memory, _ in self._scratch)

    def leave(self, user: object) -> None:
        """Free what nobody shares any longer."""
        with self.lock, self._device.active():
            for memory, users in self._scratch:
                if user in users:
                    users.remove(user)
                if not users:
                    give_back([memory])
            self._scratch = [(memory, users) for memory, users in self._scratch if users]

    def close(self) -> None:
        """Give stream and scratch back."""
        with self._device.active():
            give_back([memory for memory, _ in self._scratch] + [self.stream])
        self._scratch.clear()


def make_lanes(device: Device, count: int) -> list[Lane]:
    """Make lanes, all or none."""
    lanes: list[Lane] = []
    try:
        for _ in range(count):
            lanes.append(Lane(device))  # noqa: PERF401 - what was made must be closed
    except BaseException:
        for lane in lanes:
            lane.close()
        raise
    return lanes


def give_back(resources: Iterable[Owned]) -> None:
    """Close all, whatever one of them says: a failed device must not keep the others' memory."""
    for resource in resources:
        try:
            resource.close()
        except SrsdkError as error:
            log.warning("while giving GPU memory back: %s", error)
