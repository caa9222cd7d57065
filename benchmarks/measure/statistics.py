"""Percentiles, and ratios of paired times with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """Ratio of two run times, with its confidence interval."""

    value: float
    """Estimate; 1.2 means 20 % slower."""
    low: float
    """Lower bound of the interval."""
    high: float
    """Upper bound of the interval."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def percentiles(ms: Sequence[float]) -> dict[str, float]:
    """Return p50, p90 and p99 of latencies, milliseconds; linear between order statistics."""
    p50, p90, p99 = np.percentile(np.asarray(ms, np.float64), (50, 90, 99))
    return {"p50_ms": float(p50), "p90_ms": float(p90), "p99_ms": float(p99)}


def paired_ratio(
    head_ms: Sequence[Sequence[float]], base_ms: Sequence[Sequence[float]], seed: int = 0
) -> Ratio:
    """Estimate head's time over base's from rounds of alternating runs.

    Args:
        head_ms: latencies of each round, (rounds, runs); run i is paired with run i of base.
        base_ms: the same for base.
        seed: random seed of the resampling.

    Both levels are resampled (Efron and Tibshirani, 1993): rounds, because two processes of
    the same program differ in memory layout, and pairs within a round.
    """
    logs = [np.log(np.divide(h, b)) for h, b in zip(head_ms, base_ms, strict=True)]
    random = np.random.default_rng(seed)
    means = np.array([_resampled(logs, random) for _ in range(RESAMPLES)])
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.exp(np.percentile(means, (tail, 100 - tail)))
    value = np.exp(np.mean([np.median(round_logs) for round_logs in logs]))
    return Ratio(float(value), float(low), float(high))


def median_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the bootstrap interval of a median."""
    random = np.random.default_rng(seed)
    array = np.asarray(values, np.float64)
    drawn = random.choice(array, (RESAMPLES, len(array)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(np.median(drawn, axis=1), (tail, 100 - tail))
    return float(low), float(high)


def _resampled(logs: list[Floats], random: np.random.Generator) -> float:
    rounds = random.integers(0, len(logs), len(logs))
    medians = [np.median(random.choice(logs[i], len(logs[i]))) for i in rounds]
    return float(np.mean(medians))
