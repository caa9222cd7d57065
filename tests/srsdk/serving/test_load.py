"""Many clients at once: every answer is right, and the server's memory stays flat."""

from __future__ import annotations

import sys

import pytest

from tests.soak.server import MAX_GROWTH_MIB, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_some_seconds_of_load() -> None:
    """Sixteen clients, six sizes, three formats each way: equal to the answers without load."""
    found = run(16, 4, "--model", "gan_x2")
    assert found["problems"] == []
    assert set(found["statuses"]) == {200}
    assert found["p50_ms"] <= found["p99_ms"] <= found["max_ms"]


@pytest.mark.slow
def test_minutes_of_load() -> None:
    """The same for five minutes: the memory does not grow after the first third."""
    found = run(16, 300, "--model", "gan_x2")
    assert found["problems"] == []
    assert found["growth_mib"] < MAX_GROWTH_MIB
