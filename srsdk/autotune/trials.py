"""Measure which precision and tile size run a model fastest on this machine.

Candidates are the unchanged file, the same file in bfloat16 if the processor supports it and the
result stays within `MIN_PARITY_DB` of float32, and the INT8 file of the same weights if the folder
has one; where any device may be chosen, also the unchanged file and its FP16 form on each. Each
must first pass its self-test (`srsdk.inference.self_test`). Then the tile size is measured. The
choice is cached.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from srsdk.autotune import cache
from srsdk.autotune.cache import ON, Choice, Trial, Tried
from srsdk.autotune.forms import int8_file, sibling
from srsdk.engines.accelerators.spelling import choose_accelerator
from srsdk.engines.protocol import Engine, Slot
from srsdk.engines.select import choose_backend, open_engine, refuse_gpu_form
from srsdk.errors import BackendError, ModelError, UsageError
from srsdk.formats.probe import psnr_db
from srsdk.image.arrays import Picture
from srsdk.inference.self_test import require
from srsdk.inference.tensor_io import Boundary
from srsdk.manifest import Manifest, read_manifest

log = logging.getLogger("srsdk")

CPU = "cpu"
MIN_PARITY_DB = 45.0
"""Minimum PSNR of bfloat16 against float32, on `probe`."""
PROBE_PX = (180, 320)
TILE_SIDES_PX = (128, 192, 256, 384, 512)
RUNS, WARM_UP_RUNS = 7, 2
MIN_GAIN = 0.03
"""Minimum gain in speed of a larger tile, which needs more memory, or a less precise candidate."""


@dataclass(frozen=True)
class Candidate:
    """One way to run a model."""

    path: Path
    """The file to run."""
    precision: str
    """`auto` or `bf16`, as for the Upscaler."""
    manifest: Manifest
    """Manifest of the file."""
    device: str = CPU
    """Where it runs, as for the Upscaler."""

    @property
    def name(self) -> str:
        """Name of the candidate in a trial."""
        form = "bf16" if self.precision == "bf16" else self.manifest.precision
        return form if self.device == CPU else f"{form}{ON}{self.device}"

    @property
    def tried(self) -> Tried:
        """The candidate as a choice names it."""
        return Tried(self.path.name, self.precision, self.name)


def tuned(
    path: Path,
    *,
    backend: str = "auto",
    threads: int | None = None,
    again: bool = False,
    any_device: bool = False,
) -> Choice:
    """Return the fastest way to run a model file on this machine; measure once, then cache.

    Args:
        path: an `.onnx` file with a manifest.
        backend: as for the Upscaler; only `openvino` supports `bf16`.
        threads: as for the Upscaler.
        again: measure even if there is a cached choice.
        any_device: also try OpenVINO's other devices that exist here; only with `openvino`.

    Raises:
        UsageError: a file without a manifest, or one that accepts one size only.
        ModelError, BackendError: as for the Upscaler.
    """
    backend = choose_backend(backend)
    devices = other_devices() if any_device and backend == "openvino" else ()
    candidates = list(_candidates(path, backend, devices))
    key = cache.key([c.path for c in candidates], backend, threads, devices)
    tried = [candidate.tried for candidate in candidates]
    found = None if again else cache.load(key, tried)
    if found is not None:
        return found
    log.info("tune: measuring %s once on this machine", path.name)
    choice = _measured(candidates, backend, threads)
    cache.save(key, choice)
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


def other_devices() -> tuple[str, ...]:
    """Return OpenVINO's devices here besides the CPU, as for the Upscaler."""
    from srsdk.engines.accelerators import openvino_devices

    names = map(openvino_devices.own_name, openvino_devices.available())
    return tuple(name for name in names if name != CPU)


def _candidates(path: Path, backend: str, devices: Sequence[str]) -> Iterator[Candidate]:
    manifest = read_manifest(path)
    refuse_gpu_form(path, manifest)
    if manifest is None or manifest.size_px is not None:
        what = "has no manifest" if manifest is None else f"accepts {manifest.size_px} only"
        raise UsageError(f"{path} {what}, so there is nothing to tune: open it without tune")
    yield Candidate(path, "auto", manifest)
    for device in devices:
        yield Candidate(path, "auto", manifest, device)
    if manifest.precision != "fp32":
        return
    if backend == "openvino":
        yield Candidate(path, "bf16", manifest)
    int8 = int8_file(path)
    of_int8 = None if int8 is None else read_manifest(int8)
    if int8 is not None and of_int8 is not None:
        yield Candidate(int8, "auto", of_int8)
    fp16 = sibling(path, "fp16", on_gpu=True)
    of_fp16 = None if fp16 is None else read_manifest(fp16)
    if fp16 is not None and of_fp16 is not None:
        # a processor computes it in float32, as it does the file itself
        for device in devices:
            yield Candidate(fp16, "auto", of_fp16, device)


def _measured(candidates: list[Candidate], backend: str, threads: int | None) -> Choice:
    trials = _race(candidates, backend, threads)
    best = 0
    for index, trial in enumerate(trials):
        # in order of fidelity: a less precise candidate must be clearly faster
        if trial.passed and trial.ms < trials[best].ms * (1 - MIN_GAIN):
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
    """Time all candidates in turns, so that other load on the machine affects them equally."""
    with ExitStack() as stack:
        slots: list[Slot | str] = []
        for candidate in candidates:
            try:
                engine = _open(candidate, backend, threads, stack)
                # an INT8 file may be fast but wrong on this machine
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
            else _checked(c, next(ms), psnr_db(next(pictures), reference))
            for c, slot in zip(candidates, slots, strict=True)
        ]


def _checked(candidate: Candidate, ms: float, parity: float) -> Trial:
    if candidate.precision == "bf16" and parity < MIN_PARITY_DB:
        why = f"{parity:.1f} dB from float32, expected {MIN_PARITY_DB:g} or more"
        return Trial(candidate.name, ms, parity, False, why)
    return Trial(candidate.name, ms, parity, True, "")


def _tile_times(engine: Engine, manifest: Manifest) -> dict[int, float]:
    """Time square tiles; tiles too small for the overlap are skipped."""
    sides = [_fitting((side, side), manifest)[0] for side in TILE_SIDES_PX]
    sides = [side for side in sides if side > 4 * manifest.radius_px]
    with ExitStack() as stack:
        slots = [stack.enter_context(_slot(engine, manifest, (side, side))) for side in sides]
        found = dict(zip(sides, _medians_ms(slots), strict=True))
    if not found:
        raise UsageError(
            f"{manifest.name} needs {manifest.radius_px} px of overlap on each side, more than any "
            "measured tile size allows: open it without tune"
        )
    return found


def _budget_px(tiles_ms: dict[int, float], radius_px: int) -> int:
    """Choose the tile with the least time per kept pixel; the smaller one wins a near tie."""
    cost = {side: ms / (side - 2 * radius_px) ** 2 for side, ms in tiles_ms.items()}
    least = min(cost.values())
    return min(side for side, value in cost.items() if value <= least * (1 + MIN_GAIN)) ** 2


def _open(candidate: Candidate, backend: str, threads: int | None, stack: ExitStack) -> Engine:
    engine = open_engine(
        candidate.path,
        backend,
        accelerator=choose_accelerator(candidate.device, None, backend, None, is_engine=False),
        threads=threads,
        precision=candidate.precision,
    )
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
    height, width = (slot.input.shape[axis] * manifest.scale for axis in axes)
    return boundary.unstage(output, height, width).copy()
