"""Whether INT8 is worth it here: two files timed in turns, so that both see the same machine."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from srsdk.engines import BACKENDS, Slot, installed, open_engine
from srsdk.errors import SrsdkError

SIZE_PX = (180, 320)
ROUNDS = 9


@dataclass(frozen=True)
class Verdict:
    """One backend's word."""

    backend: str
    """Which."""
    size_px: tuple[int, int]
    """(height, width) of the input."""
    float32_ms: float
    """Median."""
    int8_ms: float
    """Median."""
    speedup: float
    """Median of the ratios of neighbouring runs."""
    faster_in: float
    """Share of the rounds in which INT8 was faster."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        return asdict(self)

    def __str__(self) -> str:
        height, width = self.size_px
        word = "faster" if self.speedup > 1.05 else "not faster"
        return (
            f"{self.backend}, {width}x{height} on this CPU: INT8 is {word}, {self.int8_ms:.0f} ms "
            f"against {self.float32_ms:.0f} ms in float32 ({self.speedup:.2f}x, paired, in "
            f"{self.faster_in:.0%} of {ROUNDS} rounds)"
        )


def verdict(float32: Path, int8: Path) -> list[Verdict]:
    """Time both files in every backend that is installed; fixed-size and luma files are skipped."""
    return [
        found
        for backend in BACKENDS
        if installed(backend) and (found := _paired(backend, float32, int8)) is not None
    ]


def _paired(backend: str, float32: Path, int8: Path) -> Verdict | None:
    engines = [open_engine(path, backend, threads=None) for path in (float32, int8)]
    try:
        slots = [engine.slot((1, *SIZE_PX, 3)) for engine in engines]
        picture = np.random.default_rng(0).integers(0, 256, (1, *SIZE_PX, 3))
        for slot in slots:
            slot.input[...] = picture
            _seconds(slot)
        times = np.array([[_seconds(slot) for slot in slots] for _ in range(ROUNDS)])
    except SrsdkError:
        return None
    finally:
        for engine in engines:
            engine.close()
    ratios = times[:, 0] / times[:, 1]
    base, quick = np.median(times, axis=0) * 1000
    return Verdict(
        backend,
        SIZE_PX,
        round(float(base), 2),
        round(float(quick), 2),
        round(float(np.median(ratios)), 3),
        round(float(np.mean(ratios > 1)), 3),
    )


def _seconds(slot: Slot) -> float:
    began = time.perf_counter()
    slot.submit()
    slot.wait()
    return time.perf_counter() - began
