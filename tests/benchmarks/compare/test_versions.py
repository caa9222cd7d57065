"""`compare` finds slowdowns, raises no false alarm, and runs the requested versions."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare import environments, gate, versions
from benchmarks.compare.environments import BuildError
from benchmarks.compare.versions import CompareError, Plan, is_slower
from benchmarks.measure.statistics import median_interval, paired_ratio

Rounds = list[list[float]]


def latencies(seed: int, factor: float) -> tuple[Rounds, Rounds]:
    """Draw latencies of base and head as measured on a busy machine.

    They have shared drift, a bias of each process, noise, and outliers of a stolen core.
    """
    random = np.random.default_rng(seed)
    base: Rounds = []
    head: Rounds = []
    for _ in range(5):
        drift = np.exp(np.cumsum(random.normal(0, 0.02, 20)))
        for side, slower in ((base, 1.0), (head, factor)):
            bias = np.exp(random.normal(0, 0.01))
            noise = np.exp(random.normal(0, 0.03, 20))
            stolen = np.where(random.random(20) < 0.1, 1 + random.random(20), 1)
            side.append(list(30 * slower * bias * drift * noise * stolen))
    return base, head


@pytest.mark.parametrize("seed", range(10))
def test_no_alarm_without_a_change(seed: int) -> None:
    """Ten repeats without a change raise no alarm."""
    base, head = latencies(seed, 1.0)
    assert not is_slower(paired_ratio(head, base), Plan())


@pytest.mark.parametrize("seed", range(10))
def test_finds_a_slowdown_of_a_fifth(seed: int) -> None:
    """20 % slower is found each time, and the interval contains the true ratio."""
    base, head = latencies(seed, 1.2)
    ratio = paired_ratio(head, base)
    assert is_slower(ratio, Plan())
    assert ratio.low < 1.22
    assert ratio.high > 1.18


def test_interval_of_a_median() -> None:
    """Equal values give an empty interval; it always lies within the values."""
    assert median_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
    low, high = median_interval([1.0, 2.0, 3.0])
    assert 1 <= low <= 2 <= high <= 3


def test_one_base_is_needed() -> None:
    """None or two are an error before anything is built."""
    for call in (["compare"], ["compare", "a", "b", "--against-ref", "c"]):
        arguments = _parsed(call)
        with pytest.raises(CompareError, match="expected one base"):
            versions.run(arguments)


def test_invalid_versions(tmp_path: Path) -> None:
    """The error names what was expected."""
    with pytest.raises(BuildError, match="neither a folder, nor a wheel, nor a git reference"):
        environments.make("no-such-reference", tmp_path / "a")
    with pytest.raises(BuildError, match="expected a checkout"):
        environments.make(str(tmp_path), tmp_path / "b")


@pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="needs hatchling")
@pytest.mark.slow
def test_two_versions_run_side_by_side(tmp_path: Path, repository: Path) -> None:
    """Each runs its own code, on the same libraries; the slowed one is another version."""
    base = environments.make(str(repository), tmp_path / "base")
    head = environments.make(str(repository), tmp_path / "head")
    assert base.code_sha256 == head.code_sha256
    gate.slow_down(head)
    assert base.code_sha256 != head.code_sha256
    plan = Plan(model="gan_x2", workload="tile", rounds=1, runs=2, threads=1)
    base_ms, head_ms = versions.measure(base, head, plan)
    assert [len(ms) for ms in base_ms] == [len(ms) for ms in head_ms] == [2]
    code = "import srsdk, numpy, json; print(json.dumps([srsdk.__file__, numpy.__file__]))"
    asked = [str(head.python), "-I", "-c", code]
    found = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    assert Path(found[0]).is_relative_to(tmp_path / "head")
    assert found[1] == np.__file__


def _parsed(call: list[str]) -> argparse.Namespace:
    from benchmarks.cli import _parser

    return _parser().parse_args(call)
