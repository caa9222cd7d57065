"""Compare the speed of INT8 with float on this CPU; files alternate to see the same machine load.

`export.paired` compares any two files in any two backends, in alternating processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.graph.session import session_run
from srsdk.engines.backends import BACKENDS, installed
from srsdk.engines.select import open_engine
from srsdk.errors import SrsdkError
from srsdk.manifest import read_manifest

SIZES_PX = ((24, 40), (45, 80), (90, 160), (180, 320))
"""(height, width) of the input; the largest at which every file takes under about `SLOW_S`."""
SLOW_S = 1.0
FEWEST, ROUNDS = 3, 9
BUDGET_S = 4.0
"""Time for one backend; a slow network gets fewer rounds."""
NOT_FASTER = 1.05
"""A median ratio up to this is not reported as a gain."""
WORTH = 1.2
"""Least ratio at which INT8 is worth its loss and a file of its own."""

Run = Callable[[], object]
"""Runs inference once."""


@dataclass(frozen=True)
class SpeedComparison:
    """Times of all precisions in one backend."""

    backend: str
    """Backend name."""
    size_px: tuple[int, int]
    """(height, width) of the input."""
    ms: MappingProxyType[str, float]
    """Median milliseconds by precision."""
    speedup: MappingProxyType[str, float]
    """Speed-up of INT8 over each other precision: median ratio of neighboring runs."""
    faster_in: MappingProxyType[str, float]
    """Share of the rounds in which INT8 was faster, by other precision."""
    rounds: int
    """Number of rounds."""

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
        # ratios of neighboring runs decide: on a busy machine the medians may disagree with them
        words = [
            f"INT8 is {'faster' if ratio > NOT_FASTER else 'not faster'} than {name}: {ratio:.2f}x "
            f"(median of {self.rounds} ratios of neighboring runs, faster in "
            f"{self.faster_in[name]:.0%})"
            for name, ratio in self.speedup.items()
        ]
        return "; ".join([f"{self.backend}, {width}x{height} on this CPU: {times}", *words])


def worth(comparisons: Sequence[SpeedComparison], cost: str) -> str:
    """Return whether INT8 is worth what it costs, in the backend that runs it fastest.

    Args:
        comparisons: results of `compare_speed`.
        cost: what it loses, such as `0.05 dB`.

    Returns:
        A sentence; empty: INT8 and float32 were not timed together.
    """
    timed = [one for one in comparisons if "fp32" in one.speedup]
    if not timed:
        return ""
    best = min(timed, key=lambda one: one.ms["int8"])
    ratio = best.speedup["fp32"]
    against = f"{ratio:.2f}x the speed of fp32 in {best.backend} on this CPU, at {cost}"
    if ratio >= WORTH:
        return f"INT8 is worth it: {against}"
    return f"INT8 is not worth it: {against}; use the fp32 or fp16 file"


def compare_speed(files: Mapping[str, Path]) -> list[SpeedComparison]:
    """Time files of one network in every installed backend.

    Args:
        files: ONNX files by precision, of one source. A backend that cannot open them is skipped.
    """
    found = (_time_alternating(backend, files) for backend in BACKENDS if installed(backend))
    return [one for one in found if one is not None]


def _time_alternating(backend: str, files: Mapping[str, Path]) -> SpeedComparison | None:
    opened: list[_Opened] = []
    try:
        opened.extend(_open(backend, path) for path in files.values())
        size, runs, slowest = _warm_up(opened, next(iter(files.values())))
        rounds = min(ROUNDS, max(FEWEST, int(BUDGET_S / (slowest * len(runs)))))
        times = np.array([[_seconds(run) for run in runs] for _ in range(rounds)])
    except SrsdkError:
        return None
    finally:
        for one in opened:
            one.close()
    return _comparison(backend, size, dict(zip(files, times.T, strict=True)))


@dataclass(frozen=True)
class _Opened:
    at: Callable[[tuple[int, ...]], Run]
    """Maps an input shape to a function that runs it once."""
    close: Callable[[], None]


def _open(backend: str, path: Path) -> _Opened:
    manifest = read_manifest(path)
    if manifest is not None and manifest.family == "vae" and backend == "onnxruntime":
        # its noise is a second input, which a slot does not have
        upscale = session_run(onnx.load(path))
        return _Opened(lambda shape: partial(upscale, np.zeros(shape, np.uint8)), lambda: None)
    engine = open_engine(path, backend, threads=None)

    def at(shape: tuple[int, ...]) -> Run:
        slot = engine.slot(shape)
        slot.input[...] = np.random.default_rng(0).integers(0, 256, shape)

        def once() -> None:
            slot.submit()
            slot.wait()

        return once

    return _Opened(at, engine.close)


def _warm_up(opened: Sequence[_Opened], path: Path) -> tuple[tuple[int, int], list[Run], float]:
    """Return the largest size at which no file is slow, its runs, and the slowest run's seconds."""
    manifest = read_manifest(path)
    assert manifest is not None
    multiple = manifest.multiple_px
    sizes = [(-(-h // multiple) * multiple, -(-w // multiple) * multiple) for h, w in SIZES_PX]
    for height, width in [manifest.size_px] if manifest.size_px else sizes:
        runs = [one.at((1, height, width, manifest.channels)) for one in opened]
        for run in runs:
            run()
        slowest = max(map(_seconds, runs))
        if slowest > SLOW_S / 4:  # the next size has four times as many pixels
            break
    return (height, width), runs, slowest


def _comparison(
    backend: str, size: tuple[int, int], seconds: Mapping[str, npt.NDArray[np.float64]]
) -> SpeedComparison:
    ms = {name: round(float(np.median(values)) * 1000, 2) for name, values in seconds.items()}
    others = [name for name in seconds if name != "int8" and "int8" in seconds]
    ratios = {name: seconds[name] / seconds["int8"] for name in others}
    return SpeedComparison(
        backend,
        size,
        MappingProxyType(ms),
        MappingProxyType({name: round(float(np.median(r)), 3) for name, r in ratios.items()}),
        MappingProxyType({name: round(float(np.mean(r > 1)), 3) for name, r in ratios.items()}),
        len(next(iter(seconds.values()))),
    )


def _seconds(run: Run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
