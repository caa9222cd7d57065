"""What runs a model fastest on this machine, found by a short measured trial and remembered.

Candidates are the file as it is, the same file computed in bfloat16 where the processor has it and
the result stays within `MIN_PARITY_DB` of float32, and the INT8 file of the same weights where one
lies beside it. Each must first hold on this machine what its manifest promises
(`srsdk.self_test`). Then comes the size of tiles.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from srsdk import tune_cache
from srsdk.boundary import Boundary
from srsdk.engines import Engine, Slot, choose_backend, open_engine
from srsdk.errors import BackendError, ModelError, UsageError
from srsdk.manifest import Manifest, read_manifest
from srsdk.probe import psnr_db
from srsdk.self_test import require
from srsdk.settings import refuse_gpu_form
from srsdk.tiles import Picture
from srsdk.tune_cache import Choice, Trial

log = logging.getLogger("srsdk")

MIN_PARITY_DB = 45.0
"""PSNR against float32 that bfloat16 must hold, on `probe`."""
PROBE_PX = (180, 320)
TILE_SIDES_PX = (128, 192, 256, 384, 512)
RUNS, WARM_UP_RUNS = 7, 2
WORTH = 0.03
"""A larger tile must be faster by this share: it takes more memory."""


@dataclass(frozen=True)
class Candidate:
    """One way to run a model."""

    path: Path
    """The file."""
    precision: str
    """`auto` or `bf16`, as for the Upscaler."""
    manifest: Manifest
    """Of the file."""

    @property
    def name(self) -> str:
        """What it is called in a trial."""
        return "bf16" if self.precision == "bf16" else self.manifest.precision


def tuned(
    path: Path, *, backend: str = "auto", threads: int | None = None, again: bool = False
) -> Choice:
    """Return what is fastest for a model file on this machine; measured once, then remembered.

    Args:
        path: an `.onnx` file with a manifest.
        backend: as for the Upscaler; `bf16` is a way of `openvino` alone.
        threads: as for the Upscaler.
        again: measure even if there is a remembered choice.

    Raises:
        UsageError: a file that says nothing of itself, or accepts one size only.
        ModelError, BackendError: as for the Upscaler.
    """
    backend = choose_backend(backend)
    candidates = list(_candidates(path, backend))
    key = tune_cache.key([c.path for c in candidates], backend, threads)
    found = None if again else tune_cache.load(key)
    if found is not None:
        return found
    log.info("tune: measuring %s on this machine, once", path.name)
    choice = _measured(candidates, backend, threads)
    tune_cache.save(key, choice)
    return choice


def probe(height: int, width: int, channels: int) -> Picture:
    """Make a (height, width, channels) uint8 picture of ramps, edges and fine stripes."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = np.sin(x * (0.02 + x / width / 2)) + np.sin(y * (0.03 + y / height / 3))
    edges = 60 * (((x // 37).astype(int) + (y // 23).astype(int)) % 2)
    grain = np.random.default_rng(0).normal(0, 4, (height, width))
    planes = [60 + 30 * waves + edges + grain + 40 * c * x / width for c in range(channels)]
    levels: Picture = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    return levels


def _candidates(path: Path, backend: str) -> Iterator[Candidate]:
    manifest = read_manifest(path)
    refuse_gpu_form(path, manifest)
    if manifest is None or manifest.size_px is not None:
        what = "carries no manifest" if manifest is None else f"accepts {manifest.size_px} only"
        raise UsageError(f"{path} {what}, so there is nothing to tune: leave tune away")
    yield Candidate(path, "auto", manifest)
    if manifest.precision != "fp32":
        return
    if backend == "openvino":
        yield Candidate(path, "bf16", manifest)
    beside = path.with_name(f"{path.stem}.int8.onnx")
    other = read_manifest(beside) if beside.is_file() else None
    # of the same weights, or it is another model that happens to have this name
    if other is not None and other.precision == "int8" and other.flavour != "gpu":
        same = other.weights_sha256 == manifest.weights_sha256 and other.scale == manifest.scale
        if same and manifest.weights_sha256:
            yield Candidate(beside, "auto", other)


def _measured(candidates: list[Candidate], backend: str, threads: int | None) -> Choice:
    trials = _race(candidates, backend, threads)
    best = 0
    for index, trial in enumerate(trials):
        # in the order of fidelity: what loses some must be worth it
        if trial.passed and trial.ms < trials[best].ms * (1 - WORTH):
            best = index
    candidate = candidates[best]
    with ExitStack() as stack:
        engine = _open(candidate, backend, threads, stack)
        tiles_ms = _tile_times(engine, candidate.manifest)
    return Choice(
        file=candidate.path.name,
        precision=candidate.precision,
        name=candidate.name,
        speed_up=trials[0].ms / trials[best].ms,
        tile_budget_px=_budget_px(tiles_ms, candidate.manifest.radius_px),
        trials=tuple(trials),
        tiles_ms={f"{side}x{side}": ms for side, ms in tiles_ms.items()},
    )


def _race(candidates: list[Candidate], backend: str, threads: int | None) -> list[Trial]:
    """Run all candidates in turns, so that whatever else the machine does meets all of them."""
    with ExitStack() as stack:
        slots: list[Slot | str] = []
        for candidate in candidates:
            try:
                engine = _open(candidate, backend, threads, stack)
                # an INT8 file may be fast and wrong here
                require(candidate.path, engine, candidate.manifest, candidate.precision)
                size = _fitting(PROBE_PX, candidate.manifest)
                slots.append(stack.enter_context(_slot(engine, candidate.manifest, size)))
            except (BackendError, ModelError) as error:
                if candidate is candidates[0]:
                    raise
                slots.append(str(error))
        running = [slot for slot in slots if not isinstance(slot, str)]
        ms = iter(_medians_ms(running))
        pictures = iter([_as_picture(slot, candidates[0].manifest) for slot in running])
        reference = _as_picture(running[0], candidates[0].manifest)
        return [
            Trial(c.name, 0.0, 0.0, False, slot)
            if isinstance(slot, str)
            else _judged(c, next(ms), psnr_db(next(pictures), reference))
            for c, slot in zip(candidates, slots, strict=True)
        ]


def _judged(candidate: Candidate, ms: float, parity: float) -> Trial:
    if candidate.precision == "bf16" and parity < MIN_PARITY_DB:
        why = f"{parity:.1f} dB from float32, expected {MIN_PARITY_DB:g} or more"
        return Trial(candidate.name, ms, parity, False, why)
    return Trial(candidate.name, ms, parity, True, "")


def _tile_times(engine: Engine, manifest: Manifest) -> dict[int, float]:
    """Measure square tiles; those that are too small for the overlap are left out."""
    sides = [_fitting((side, side), manifest)[0] for side in TILE_SIDES_PX]
    sides = [side for side in sides if side > 4 * manifest.radius_px]
    with ExitStack() as stack:
        slots = [stack.enter_context(_slot(engine, manifest, (side, side))) for side in sides]
        found = dict(zip(sides, _medians_ms(slots), strict=True))
    if not found:
        raise UsageError(
            f"{manifest.name} needs {manifest.radius_px} px of overlap on each side, more than any "
            "tile that a trial measures: leave tune away"
        )
    return found


def _budget_px(tiles_ms: dict[int, float], radius_px: int) -> int:
    """Choose the tile with the least time for a pixel that is kept; smaller ones on a par win."""
    cost = {side: ms / (side - 2 * radius_px) ** 2 for side, ms in tiles_ms.items()}
    least = min(cost.values())
    return min(side for side, value in cost.items() if value <= least * (1 + WORTH)) ** 2


def _open(candidate: Candidate, backend: str, threads: int | None, stack: ExitStack) -> Engine:
    engine = open_engine(candidate.path, backend, threads=threads, precision=candidate.precision)
    stack.callback(engine.close)
    return engine


def _fitting(size: tuple[int, int], manifest: Manifest) -> tuple[int, int]:
    multiple = manifest.multiple_px
    return size[0] // multiple * multiple, size[1] // multiple * multiple


@contextmanager
def _slot(engine: Engine, manifest: Manifest, size: tuple[int, int]) -> Iterator[Slot]:
    boundary = Boundary.of(manifest)
    slot = engine.slot(boundary.input_shape(size))
    try:
        boundary.stage(probe(*size, manifest.channels), slot.input)
        yield slot
    finally:
        slot.close()


def _medians_ms(slots: list[Slot]) -> list[float]:
    times: list[list[float]] = [[] for _ in slots]
    for _ in range(WARM_UP_RUNS + RUNS):
        for slot, of_slot in zip(slots, times, strict=True):
            began = time.perf_counter()
            slot.submit()
            slot.wait()
            of_slot.append(1000 * (time.perf_counter() - began))
    return [median(of_slot[WARM_UP_RUNS:]) for of_slot in times]


def _as_picture(slot: Slot, manifest: Manifest) -> Picture:
    output: npt.NDArray[np.generic] = slot.wait()
    boundary = Boundary.of(manifest)
    axes = (2, 3) if manifest.layout == "NCHW" else (1, 2)
    return boundary.unstage(output, *(output.shape[axis] for axis in axes)).copy()
