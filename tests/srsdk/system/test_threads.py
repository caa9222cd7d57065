"""Threads that cannot be started are an error with a fix, and leave nothing queued."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    assert threading.active_count() <= before
    end = threading.Event()
    try:
        with pytest.raises(BackendError, match="refuses to start a thread"):
            _keep_busy(64, end)
    finally:
        end.set()


def _keep_busy(count: int, end: threading.Event) -> None:
    def hold() -> None:
        end.wait(60)

    for _ in range(count):
        threads.start(hold, "srsdk-test")


def test_a_thread_is_used_again() -> None:
    """Work that follows other work runs in its thread, which keeps nothing of it alive."""
    first = threads.future_of(threading.get_ident, "srsdk-test").result(10)
    idents = {threads.future_of(threading.get_ident, "srsdk-test").result(10) for _ in range(50)}
    # a thread that is still on its way back is not waited for
    assert len({first} | idents) <= 3
    held = np.zeros(4)
    gone = weakref.ref(held)
    threads.future_of(held.sum, "srsdk-test").result(10)
    del held
    for _ in range(1000):
        if gone() is None:
            return
        time.sleep(0.01)
    pytest.fail("an idle thread keeps its last work alive")


def test_an_idle_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without more work a thread ends after a while, and work that comes later has another."""
    monkeypatch.setattr(threads, "IDLE_S", 0.05)
    threads.future_of(lambda: None, "srsdk-short").result(10)
    for _ in range(2000):
        if "srsdk-short" not in {thread.name for thread in threading.enumerate()}:
            break
        time.sleep(0.01)
    else:
        pytest.fail("an idle thread does not end")
    assert threads.future_of(lambda: 3, "srsdk-test").result(10) == 3


def test_threads_handed_out_at_once_lose_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work given to a thread in the moment when it would end is done all the same."""
    monkeypatch.setattr(threads, "IDLE_S", 0.001)
    random = np.random.default_rng(0)
    for round_, wait_s in enumerate(random.uniform(0, 0.002, 300)):
        futures = [threads.future_of(partial(int, round_), "srsdk-test") for _ in range(3)]
        assert [future.result(10) for future in futures] == [round_] * 3
        time.sleep(wait_s)


def test_a_process_exits_while_a_decoder_runs(tmp_path: Path) -> None:
    """The exit of the process waits for work that a deadline left behind; without it, it aborts."""
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 255, (1500, 2000, 3), np.uint8))
    picture.save(tmp_path / "a.png")
    script = (
        "import sys, srsdk\n"
        "up = srsdk.Upscaler('gan_x2')\n"
        "try:\n"
        "    up(sys.argv[1], timeout=0.3)\n"
        "except srsdk.DeadlineExceeded:\n"
        "    print('late')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.png")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "late"), done.stderr
