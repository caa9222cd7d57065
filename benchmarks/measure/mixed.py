"""Measure pictures of many sizes, most of which the process has not seen, as a server does."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import srsdk
from benchmarks.workloads import Picture, mixed_pictures, picture

WARM_PX = (96, 96)
"""(height, width) of the warm-up picture, which no workload has."""
NEW_SIZES = 12
"""Number of new sizes for the difference between a first and a second picture."""


def measure(model: str, **options: Any) -> dict[str, Any]:
    """Upscale the pictures of the workload `mixed`, then pairs of a new size each.

    Returns:
        `ms` of each picture in the order of arrival, `seconds`, `pictures`, `cpu_ms` of a picture,
        and for new sizes what the first picture takes longer than the second:
        `first_minus_second_ms` (median) and `worst_first_ms` (maximum).
    """
    made = mixed_pictures()
    new = [p for p in mixed_pictures(seed=1) if p.shape not in {each.shape for each in made}]
    with srsdk.Upscaler(model, **options) as up:
        for _ in range(2):
            up(picture(*WARM_PX))
        began, used = time.perf_counter(), time.process_time()
        ms = [_ms(up, each) for each in made]
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - used
        raw = [(_ms(up, each), _ms(up, each)) for each in _distinct(new)[:NEW_SIZES]]
    more = [first - second for first, second in raw]
    return {
        "ms": ms,
        "seconds": seconds,
        "pictures": len(made),
        "cpu_ms": 1000 * cpu_s / len(made),
        "first_minus_second_ms": median(more),
        "worst_first_ms": max(more),
        "raw": raw,
    }


def _ms(up: srsdk.Upscaler, source: Picture) -> float:
    began = time.perf_counter()
    up(source)
    return 1000 * (time.perf_counter() - began)


def _distinct(pictures: list[Picture]) -> list[Picture]:
    return list({each.shape: each for each in pictures}.values())
