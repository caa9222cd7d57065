"""A fake behind the Engine/Slot seam: nearest-neighbour, and strict about its use."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from srsdk.engines import Signature
from srsdk.errors import BackendError
from srsdk.manifest import Manifest


class FakeSlot:
    """Repeats pixels, but only in `wait`, so a slot reused too early is found out."""

    def __init__(self, engine: FakeEngine, shape: tuple[int, ...]) -> None:
        self.input: npt.NDArray[Any] = np.zeros(shape, np.uint8)
        self.closed = False
        self.timed = False
        self._engine = engine
        self._busy = False

    def submit(self) -> None:
        """Note it."""
        assert not self.closed
        assert not self._busy, "submitted twice without a wait"
        self._busy = True
        self._engine.submitted += 1

    def wait(self) -> npt.NDArray[Any]:
        """Compute now."""
        if self._engine.fail_at == self._engine.waited:
            self._busy = False
            raise BackendError("the fake failed as told")
        assert self._busy, "nothing was submitted"
        if self._engine.gate is not None:
            assert self._engine.gate.acquire(timeout=120), "the test forgot the gate"
        self._busy = False
        self._engine.waited += 1
        scale = self._engine.scale
        return self.input.repeat(scale, axis=1).repeat(scale, axis=2)

    def times(self) -> dict[str, float]:
        """Made up."""
        return {"execute": 1.0}

    def close(self) -> None:
        """Note it."""
        assert not self._busy, "closed while it computes"
        self.closed = True


class FakeEngine:
    """Takes any shape; counts what is asked of it."""

    backend = "fake"
    device = "none"
    profiles: tuple[tuple[int, int, int], ...] = ()

    def __init__(
        self,
        scale: int = 2,
        *,
        fail_at: int | None = None,
        gate: threading.Semaphore | None = None,
    ) -> None:
        self.scale = scale
        self.fail_at = fail_at
        self.gate = gate  # each tile needs one permit to be done
        self.submitted = 0
        self.waited = 0
        self.closed = False
        self.slots: list[FakeSlot] = []
        self.signature = Signature("uint8", (None, None, None, 3), (None, None, None, 3))

    def slot(self, input_shape: tuple[int, ...]) -> FakeSlot:
        """Make one."""
        self.slots.append(FakeSlot(self, input_shape))
        return self.slots[-1]

    def wanted_slots(self, input_shape: tuple[int, ...]) -> int:
        """As the real ones on a CPU."""
        return 2

    def device_memory(self, input_shape: tuple[int, ...]) -> None:
        """None, as on a CPU."""

    def close(self) -> None:
        """Note it."""
        self.closed = True


def fake_manifest(
    scale: int = 2,
    radius_px: int = 3,
    multiple_px: int = 1,
    size_px: tuple[int, int] | None = None,
) -> Manifest:
    """Describe the fake."""
    return Manifest(
        name="fake",
        scale=scale,
        channels=3,
        radius_px=radius_px,
        multiple_px=multiple_px,
        size_px=size_px,
    )
