"""Fake engine and slot: nearest-neighbor upscaling with strict checks of correct use."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from srsdk.engines.protocol import Signature
from srsdk.errors import BackendError
from srsdk.manifest import Manifest


class FakeSlot:
    """Repeats pixels, but only in `wait`, so that reusing a slot too early is detected."""

    def __init__(self, engine: FakeEngine, shape: tuple[int, ...]) -> None:
        self.input: npt.NDArray[Any] = np.zeros(shape, np.uint8)
        self.closed = False
        self.timed = False
        self._engine = engine
        self._busy = False

    def submit(self) -> None:
        """Mark the slot as busy."""
        assert not self.closed
        assert not self._busy, "submitted twice without a wait"
        self._busy = True
        self._engine.submitted += 1

    def wait(self) -> npt.NDArray[Any]:
        """Compute now."""
        if self._engine.fail_at == self._engine.waited:
            self._busy = False
            raise BackendError("the fake failed on request")
        assert self._busy, "nothing was submitted"
        if self._engine.gate is not None:
            assert self._engine.gate.acquire(timeout=120), "the test forgot the gate"
        self._busy = False
        self._engine.waited += 1
        scale = self._engine.scale
        return self.input.repeat(scale, axis=1).repeat(scale, axis=2)

    def times(self) -> dict[str, float]:
        """Return a constant time."""
        return {"execute": 1.0}

    def close(self) -> None:
        """Mark the slot as closed."""
        assert not self._busy, "closed while it computes"
        self.closed = True


class FakeEngine:
    """Accepts any shape and counts its calls."""

    backend = "fake"
    device = "none"
    profiles: tuple[tuple[int, int, int], ...] = ()
    few_shapes = False

    def __init__(
        self,
        scale: int = 2,
        *,
        fail_at: int | None = None,
        gate: threading.Semaphore | None = None,
    ) -> None:
        self.scale = scale
        self.fail_at = fail_at
        self.gate = gate  # each tile needs one permit to finish
        self.submitted = 0
        self.waited = 0
        self.closed = False
        self.slots: list[FakeSlot] = []
        self.signature = Signature("uint8", (None, None, None, 3), (None, None, None, 3))

    def slot(self, input_shape: tuple[int, ...]) -> FakeSlot:
        """Make a fake slot."""
        self.slots.append(FakeSlot(self, input_shape))
        return self.slots[-1]

    def wanted_slots(self, input_shape: tuple[int, ...]) -> int:
        """Return 2, as real engines on a CPU do."""
        return 2

    def device_memory(self, input_shape: tuple[int, ...]) -> None:
        """Return None, as on a CPU."""

    def close(self) -> None:
        """Mark the engine as closed."""
        self.closed = True


def fake_manifest(
    scale: int = 2,
    radius_px: int = 3,
    multiple_px: int = 1,
    size_px: tuple[int, int] | None = None,
) -> Manifest:
    """Return a manifest for the fake engine."""
    return Manifest(
        name="fake",
        scale=scale,
        channels=3,
        radius_px=radius_px,
        multiple_px=multiple_px,
        size_px=size_px,
    )
