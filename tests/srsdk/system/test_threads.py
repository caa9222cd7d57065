"""Threads that cannot be started are an error with a fix, and leave nothing queued."""

from __future__ import annotations

import subprocess
import sys
import threading
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
    assert threading.active_count() == before
    with pytest.raises(BackendError, match="refuses to start a thread"):
        _start_five()


def _start_five() -> None:
    for _ in range(5):
        threads.start(lambda: None, "srsdk-test")


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
