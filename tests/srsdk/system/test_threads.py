"""Threads that cannot be started are an error with a fix, and leave nothing queued."""

from __future__ import annotations

import threading

import pytest

from srsdk.errors import BackendError
from srsdk.system import threads


def test_all_threads_of_a_pool_run_at_once() -> None:
    """Work that needs every thread at the same time finishes."""
    with threads.started_pool(4, "srsdk-test") as pool:
        barrier = threading.Barrier(4)
        assert sorted(f.result() for f in [pool.submit(barrier.wait, 10) for _ in range(4)]) == [
            0, 1, 2, 3,
        ]  # fmt: skip


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_a_refused_thread_is_an_error_with_a_fix(
    monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    """A pool of which one thread cannot be started leaves no thread behind."""
    before = threading.active_count()
    real = threading.Thread.start
    started: list[threading.Thread] = []

    def start(self: threading.Thread) -> None:
        if len(started) >= allowed:
            raise RuntimeError("can't start new thread")
        started.append(self)
        real(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(BackendError, match="ulimit -u"):
        threads.started_pool(4, "srsdk-test")
    assert threading.active_count() == before
    with pytest.raises(BackendError, match="refuses to start a thread"):
        _start_five()


def _start_five() -> None:
    for _ in range(5):
        threads.start(lambda: None, "srsdk-test")
