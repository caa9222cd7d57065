"""Run the tests of the GPU path on the simulated GPU, in processes that load its driver."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulators import cuda

SEEDS = 1000
LONGEST_S = 300
"""About ten times what each takes."""

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the simulated CUDA driver is for Linux"),
    pytest.mark.skipif(
        cuda.compiler() is None, reason="needs a C++ compiler: apt install build-essential"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("cuda") is None, reason="needs cuda-bindings: pip install it"
    ),
]


def start(repository: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start Python on the simulated GPU."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=repository, env=cuda.environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    """Return the output of a process that must succeed."""
    try:
        output, _ = process.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        output = process.communicate()[0]
        pytest.fail(f"it hangs: {output[-10_000:]}")
    assert process.returncode == 0, output[-10_000:]
    return output


def test_everything_that_runs_on_a_gpu(repository: Path) -> None:
    """All tests of `tests/simulated` pass; none is left out for lack of a driver."""
    options = ("-q", "-p", "no:cacheprovider", "--show-capture=no")
    output = finish(start(repository, "pytest", "tests/simulated", *options))
    assert " passed" in output


@pytest.mark.slow
def test_a_thousand_interleavings(repository: Path) -> None:
    """No wrong byte, leak or use of freed memory in any of 1,000 random interleavings."""
    half = SEEDS // 2
    name = "tests.simulated.interleavings"
    processes = [
        start(repository, name, "--seeds", str(half), "--first", str(first)) for first in (0, half)
    ]
    found = [json.loads(finish(process).splitlines()[-1]) for process in processes]
    assert sum(one["seeds"] for one in found) == SEEDS
    assert sum(one["pictures"] for one in found) > 3 * SEEDS


@pytest.mark.slow
def test_no_wait_event_or_copy_can_be_left_out(repository: Path) -> None:
    """Each statement of the hot path is left out once; the interleavings notice every time."""
    last = finish(start(repository, "tests.simulated.mutants")).splitlines()[-1]
    assert int(last.split()[0]) >= 25
    assert ", 0 missed," in last
