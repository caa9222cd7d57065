"""Whether INT8 is worth it here: files timed in turns, so that all see the same machine.

`export.paired` times any two files in any two backends, in processes that alternate.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from srsdk.engines import BACKENDS, Engine, Slot, installed, open_engine
from srsdk.errors import SrsdkError
from srsdk.manifest import read_manifest

SIZES_PX = ((24, 40), (45, 80), (90, 160), (180, 320))
"""(height, width) of the input; the largest that takes no file longer than about `SLOW_S`."""
SLOW_S = 1.0
FEWEST, ROUNDS = 3, 9
BUDGET_S = 8.0
"""For one backend; a slow network gets fewer rounds."""
NOT_FASTER = 1.05
"""A median ratio up to this is no gain that anyone would notice."""


@dataclass(frozen=True)
class Verdict:
    """One backend's word."""

    backend: str
    """Which."""
    size_px: tuple[int, int]
    """(height, width) of the input."""
    ms: MappingProxyType[str, float]
    """Median milliseconds of each precision that runs in it."""
    speedup: MappingProxyType[str, float]
    """Of INT8 over each other precision: the median of the ratios of neighbouring runs."""
    faster_in: MappingProxyType[str, float]
    """Share of the rounds in which INT8 was faster than it."""
    rounds: int
    """How many."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        values = (self.ms, self.speedup, self.faster_in)
        names = ("ms", "speedup", "faster_in")
        return {
            "backend": self.backend,
            "size_px": list(self.size_px),
            **{name: dict(value) for name, value in zip(names, values, strict=True)},
            "rounds": self.rounds,
        }

    def __str__(self) -> str:
        height, width = self.size_px
        times = ", ".join(f"{name} {ms:.1f} ms" for name, ms in self.ms.items())
        # what decides is the ratio of neighbours: on a busy machine the medians may say otherwise
        words = [
            f"INT8 is {'faster' if ratio > NOT_FASTER else 'not faster'} than {name}: {ratio:.2f}x "
            f"(median of {self.rounds} ratios of runs side by side, ahead in "
            f"{self.faster_in[name]:.0%})"
            for name, ratio in self.speedup.items()
        ]
        return "; ".join([f"{self.backend}, {width}x{height} on this CPU: {times}", *words])


def verdict(files: Mapping[str, Path]) -> list[Verdict]:
    """Time files of one network in every backend that is installed.

    Args:
        files: ONNX files by precision. Files of a fixed size or of several inputs are left out.
    """
    found = (_in_turns(backend, files) for backend in BACKENDS if installed(backend))
    return [one for one in found if one is not None]


def _in_turns(backend: str, files: Mapping[str, Path]) -> Verdict | None:
    engines: dict[str, Engine] = {}
    try:
        for precision, path in files.items():
            engines[precision] = open_engine(path, backend, threads=None)
        size, slots, slowest = _slots(engines, next(iter(files.values())))
        rounds = min(ROUNDS, max(FEWEST, int(BUDGET_S / (slowest * len(slots)))))
        times = np.array([[_seconds(slot) for slot in slots] for _ in range(rounds)])
    except SrsdkError:
        return None
    finally:
        for engine in engines.values():
            engine.close()
    return _verdict(backend, size, dict(zip(files, times.T, strict=True)))


def _slots(engines: Mapping[str, Engine], path: Path) -> tuple[tuple[int, int], list[Slot], float]:
    """Return the largest size at which no file is slow, warm slots, and the slowest's seconds."""
    manifest = read_manifest(path)
    assert manifest is not None
    sizes = [
        tuple(-(-side // manifest.multiple_px) * manifest.multiple_px for side in size)
        for size in SIZES_PX
    ]
    for height, width in [manifest.size_px] if manifest.size_px else sizes:
        shape = (1, height, width, manifest.channels)
        slots = [engine.slot(shape) for engine in engines.values()]
        for slot in slots:
            slot.input[...] = np.random.default_rng(0).integers(0, 256, shape)
            _seconds(slot)
        slowest = max(map(_seconds, slots))
        if slowest > SLOW_S / 4:  # the next size has four times as many pixels
            break
    return (height, width), slots, slowest


def _verdict(
    backend: str, size: tuple[int, int], seconds: Mapping[str, npt.NDArray[np.float64]]
) -> Verdict:
    ms = {name: round(float(np.median(values)) * 1000, 2) for name, values in seconds.items()}
    others = [name for name in seconds if name != "int8" and "int8" in seconds]
    ratios = {name: seconds[name] / seconds["int8"] for name in others}
    return Verdict(
        backend,
        size,
        MappingProxyType(ms),
        MappingProxyType({name: round(float(np.median(r)), 3) for name, r in ratios.items()}),
        MappingProxyType({name: round(float(np.mean(r > 1)), 3) for name, r in ratios.items()}),
        len(next(iter(seconds.values()))),
    )


def _seconds(slot: Slot) -> float:
    began = time.perf_counter()
    slot.submit()
    slot.wait()
    return time.perf_counter() - began
