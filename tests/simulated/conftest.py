"""The simulated GPU of a test, and what must hold after each one."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from tests.simulated.fixtures import library_violations
from tests.simulators.cuda import SETTING, Simulator


def pytest_ignore_collect() -> bool | None:
    """Leave these tests out of a process without the simulator; `test_simulated_gpu` starts one."""
    return None if SETTING in os.environ else True


@pytest.fixture(scope="session")
def simulator() -> Simulator:
    """The driver of this process."""
    return Simulator()


@pytest.fixture
def gpu(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """One GPU of SM 8.9 with 1 GiB; nothing leaks, and nothing touches what is not its own."""
    monkeypatch.setenv("SRSDK_CACHE", "")
    simulator.reset()
    yield simulator
    # an array that a traceback holds would be freed in a later test, on a stream that is gone
    gc.collect()
    assert simulator.leaks() == []
    assert simulator.violations() == []
    assert library_violations() == []
