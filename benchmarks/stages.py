"""Where the time of one file goes: decode, stage, execute, lay, encode.

The runtime's seams are wrapped from outside, in this process only, so that nothing of it runs in
an application.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import srsdk
from srsdk import boundary, pictures, tiles

SEAMS: tuple[tuple[str, Any, str], ...] = (
    ("decode", pictures, "read"),
    ("stage", boundary.Boundary, "stage"),
    ("lay", tiles.Tile, "lay"),
    ("encode", pictures, "write"),
)


def measure(model: str, source: Path, target: Path, runs: int, **options: Any) -> dict[str, Any]:
    """Upscale a file `runs` times with one slot, so that stages follow each other and add up.

    Returns:
        `ms`: stage to latencies; `execute` is what passes between a submit and the end of its
        wait, `rest` what no stage accounts for; `wall` is the whole.
    """
    ms: dict[str, list[float]] = defaultdict(list)
    with srsdk.Upscaler(model, slots=1, **options) as up:
        up.upscale_file(source, target, overwrite=True)
        engine = up._engine
        for _ in range(runs):
            seconds: dict[str, float] = defaultdict(float)
            with _traced(engine, seconds):
                began = time.perf_counter()
                up.upscale_file(source, target, overwrite=True)
                wall = time.perf_counter() - began
            seconds["rest"] = wall - sum(seconds.values())
            seconds["wall"] = wall
            for name, value in seconds.items():
                ms[name].append(1000 * value)
    return {"ms": dict(ms)}


@contextmanager
def _traced(engine: Any, seconds: dict[str, float]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, owner, method in SEAMS:
            timed = _timed(getattr(owner, method), name, seconds)
            stack.enter_context(patch.object(owner, method, timed))
        slot_type = _slot_type(engine)
        for method in ("submit", "wait"):
            timed = _timed(getattr(slot_type, method), "execute", seconds)
            stack.enter_context(patch.object(slot_type, method, timed))
        yield


def _slot_type(engine: Any) -> type:
    shape = tuple(side or 32 for side in engine.signature.input_shape)
    slot = engine.slot((1, *shape[1:]))
    slot.close()
    return type(slot)


def _timed(
    function: Callable[..., Any], name: str, seconds: dict[str, float]
) -> Callable[..., Any]:
    def timed(*arguments: Any, **keywords: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            seconds[name] += time.perf_counter() - began

    return timed
