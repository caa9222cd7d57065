"""After a thread that cannot be started, an interrupt anywhere or NaN, the next call is right."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import srsdk
from srsdk.engines.backends import BACKENDS
from srsdk.options import Backend
from srsdk.system import threads
from tests.conftest import Picture, make_picture
from tests.fakes.engine import FakeEngine, fake_manifest
from tests.srsdk.test_upscaler import open_fake

PICTURE = make_picture(40, 40)


@contextmanager
def threads_limited(allowed: int) -> Iterator[None]:
    """Let only so many threads start, as a container's limit on processes does."""
    real = threading.Thread.start
    left = allowed

    def start(self: threading.Thread) -> None:
        nonlocal left
        if left == 0:
            raise RuntimeError("can't start new thread")
        left -= 1
        real(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        patch.setattr(threads, "MAX_IDLE", 0)
        for idle in threads.end_idle():
            idle.join(10)
        yield


def check_idle(up: srsdk.Upscaler) -> None:
    """Every slot that was made is back in the pool, once."""
    pool = up._pipeline._pool
    assert {shape: len(slots) for shape, slots in pool._idle.items()} == pool._made
    for slots in pool._idle.values():
        assert len(set(map(id, slots))) == len(slots)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_deadline_without_threads(backend: Backend) -> None:
    """Whichever tile's thread is refused: one clear error, idle slots, and the next call works."""
    with srsdk.Upscaler("gan_x2", backend=backend, tile=24) as up:
        expected = up(PICTURE)
        for allowed in (0, 1, 2, 3):
            with (
                threads_limited(allowed),
                pytest.raises(srsdk.BackendError, match=r"refuses to start a thread.*ulimit -u"),
            ):
                up(PICTURE, timeout=60)
            check_idle(up)
            np.testing.assert_array_equal(up(PICTURE), expected)
        np.testing.assert_array_equal(up(PICTURE, timeout=60), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_workers_without_threads(backend: Backend) -> None:
    """`submit` raises at once, runs nothing later, and works when threads are to be had."""
    with srsdk.Upscaler("gan_x2", backend=backend, tile=24) as up:
        expected = up(PICTURE)
        before = threading.active_count()
        seen: list[int] = []
        for allowed in range(up.ahead):
            with (
                threads_limited(allowed),
                pytest.raises(srsdk.BackendError, match="refuses to start a thread"),
            ):
                up.submit(PICTURE, progress=lambda done, _: seen.append(done))
            assert threading.active_count() <= before
        assert not seen
        np.testing.assert_array_equal(up.submit(PICTURE).result(60), expected)
        check_idle(up)


def test_onnxruntime_without_threads() -> None:
    """It opens with its workers or not at all; they are not started in the middle of a call."""
    with threads_limited(0), pytest.raises(srsdk.BackendError, match="refuses to start a thread"):
        srsdk.Upscaler("gan_x2", backend="onnxruntime")
    with srsdk.Upscaler("gan_x2", backend="onnxruntime") as up, threads_limited(0):
        assert up(PICTURE).shape == (80, 80, 3)


class Interrupts:
    """Raises KeyboardInterrupt at the N-th moment at which CPython looks for signals.

    These are the beginning of a function and the return of a call into C; here those of the code
    that moves slots, and of `with`.
    """

    FILES = ("slot_pool.py", "deadline.py", "pipeline.py", "callbacks.py", "contextlib.py")

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Count what happens in those files."""
        if event in ("call", "c_return") and frame.f_code.co_filename.endswith(self.FILES):
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                raise KeyboardInterrupt


@pytest.mark.parametrize("timeout", [None, 600])
def test_an_interrupt_at_any_moment(monkeypatch: pytest.MonkeyPatch, timeout: float | None) -> None:
    """No slot is lost, lent twice or left computing, wherever Ctrl-C strikes."""
    engine = FakeEngine()
    up = open_fake(monkeypatch, engine, fake_manifest(), tile=32, slots=2)
    expected = PICTURE.repeat(2, axis=0).repeat(2, axis=1)
    before = sys.getprofile()
    at = 0
    interrupted = True
    while interrupted:
        at += 1
        interrupted = _interrupt(up, Interrupts(at), timeout)
        sys.setprofile(before)
        _let_waits_end()
        # a deadline: a lost slot is an error here and not a hang
        np.testing.assert_array_equal(up(PICTURE, timeout=60), expected)
        check_idle(up)
    assert at > 100
    up.close()


def _interrupt(up: srsdk.Upscaler, interrupts: Interrupts, timeout: float | None) -> bool:
    sys.setprofile(interrupts)
    try:
        up(PICTURE, timeout=timeout)
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(None)
    return False


def _let_waits_end() -> None:
    for thread in threading.enumerate():
        if thread.name == "srsdk-wait":
            thread.join(60)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(backend: Backend, value: float) -> None:
    """In color or alpha, whichever way in: a PictureError before any work, with every backend."""

    def poisoned(shape: tuple[int, ...], channel: int = 0) -> Picture:
        array = np.full(shape, 0.5, np.float32)
        array[(3, 4, channel)[: len(shape)]] = value
        return array  # type: ignore[return-value]

    seen: list[int] = []
    with srsdk.Upscaler("gan_x2", backend=backend) as up:
        up(PICTURE.astype(np.float32) / 255)
        for picture in (
            poisoned((20, 20)),
            poisoned((20, 20, 3)),
            poisoned((20, 20, 4)),
            poisoned((20, 20, 4), 3),
        ):
            with pytest.raises(srsdk.PictureError, match="not finite"):
                up(picture, progress=lambda done, _: seen.append(done))
        with pytest.raises(srsdk.PictureError, match="not finite"):
            up(poisoned((20, 20, 3)), out=np.empty((40, 40, 3), np.float32))
    with (
        srsdk.Sampler("vae_x4", backend=backend) as sampler,
        pytest.raises(srsdk.PictureError, match="not finite"),
    ):
        sampler.sample(poisoned((20, 20, 3)), progress=lambda done, _: seen.append(done))
    assert not seen


def test_a_clock_that_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines and results do not depend on the date."""
    monkeypatch.setattr(time, "time", lambda: 0.0)
    gate = threading.Semaphore(0)
    up = open_fake(monkeypatch, FakeEngine(gate=gate), fake_manifest(), tile=32, slots=2)
    with pytest.raises(srsdk.DeadlineExceeded):
        up(PICTURE, timeout=0.2)
    gate.release(100)
    assert up(PICTURE, timeout=60).shape == (80, 80, 3)
    up.close()


def test_nothing_reads_the_date(repository: Path) -> None:
    """`time.time` and `datetime.now` jump when the clock is set; `time.monotonic` does not."""
    for path in (repository / "srsdk").rglob("*.py"):
        if path.name == "fetching.py":
            continue  # the day on which a model was fetched, for its card
        text = path.read_text(encoding="utf-8")
        for call in ("time.time(", "datetime.now(", "date.today(", "from time import time"):
            assert call not in text, f"{path.name} calls {call}"
