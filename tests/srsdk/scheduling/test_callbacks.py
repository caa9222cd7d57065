"""An Upscaler used or closed from its own callbacks; cancellation and Ctrl-C at random moments."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.options import Backend
from tests.conftest import Picture, make_picture
from tests.fakes.engine import FakeEngine, fake_manifest
from tests.srsdk.test_upscaler import open_fake

PICTURE = make_picture(30, 30)
END_S = 60
"""A call that takes longer waits for itself."""

Use = Callable[[srsdk.Upscaler], Any]


def doubled(picture: Picture) -> Picture:
    """Return the fake's result for a picture."""
    result: Picture = picture.repeat(2, axis=0).repeat(2, axis=1)
    return result


def opened(monkeypatch: pytest.MonkeyPatch) -> tuple[srsdk.Upscaler, FakeEngine]:
    """Open an Upscaler with two slots that cuts nine tiles."""
    engine = FakeEngine()
    return open_fake(monkeypatch, engine, fake_manifest(), tile=16, slots=2), engine


def in_time(work: Callable[[], Any]) -> Any:
    """Run work in a thread; a hang is a failure here."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(END_S)
    assert results, "it hangs"
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def ended(result: Any) -> Any:
    """Wait for a future; anything else is a result already."""
    return result.result(END_S) if isinstance(result, Future) else result


def check_idle(up: srsdk.Upscaler, engine: FakeEngine) -> None:
    """All slots are idle, and the next call is right."""
    np.testing.assert_array_equal(in_time(lambda: up(PICTURE)), doubled(PICTURE))
    assert len(engine.slots) == 2
    up.close()
    assert all(slot.closed for slot in engine.slots)


def upscaled_file(up: srsdk.Upscaler, folder: Path) -> None:
    """Upscale a file."""
    Image.fromarray(PICTURE).save(folder / "in.png")
    up.upscale_file(folder / "in.png", folder / "out.png", overwrite=True)


USES: dict[str, Use] = {
    "call": lambda up: up(PICTURE),
    "batch": lambda up: up.batch([PICTURE]),
    "stream": lambda up: next(up.stream([PICTURE])),
    "result": lambda up: up.submit(PICTURE).result(),
    "exception": lambda up: up.submit(PICTURE).exception(),
    "asyncio": lambda up: asyncio.run(up.aupscale(PICTURE)),
    "close": lambda up: up.close(),
}


@pytest.mark.parametrize("in_worker", [False, True], ids=["call", "submit"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_would_wait_for_itself_is_an_error(
    monkeypatch: pytest.MonkeyPatch, use: Use, in_worker: bool
) -> None:
    """The error names the fix; nothing is closed, the outer call goes on, the next one works."""
    up, engine = opened(monkeypatch)
    seen: list[str] = []

    def progress(done: int, total: int) -> None:
        with pytest.raises(srsdk.UsageError, match="after the call") as error:
            use(up)
        seen.append(str(error.value))

    def outer() -> Picture:
        if in_worker:
            return up.submit(PICTURE, progress=progress).result()
        return up(PICTURE, progress=progress)

    np.testing.assert_array_equal(in_time(outer), doubled(PICTURE))
    assert len(seen) == 9
    check_idle(up, engine)


def test_the_error_ends_the_outer_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A callback that does not catch it stops its call, also one for files."""
    up, engine = opened(monkeypatch)
    for use in (lambda _: up(PICTURE), lambda _: upscaled_file(up, tmp_path)):
        with pytest.raises(srsdk.UsageError, match=r"submit\(\) the picture there"):
            in_time(lambda use=use: up(PICTURE, progress=lambda *both: use(both)))  # type: ignore[misc]
    assert not (tmp_path / "out.png").exists()
    check_idle(up, engine)


def test_submit_is_allowed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its result is used after the call."""
    up, engine = opened(monkeypatch)
    futures: list[Any] = []
    in_time(lambda: up(PICTURE, progress=lambda *_: futures.append(up.submit(PICTURE))))
    for future in futures:
        np.testing.assert_array_equal(future.result(END_S), doubled(PICTURE))
    assert len(futures) == 9
    check_idle(up, engine)


def test_another_upscaler_is_allowed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not if that one calls the first again."""
    up, engine = opened(monkeypatch)
    other, _ = opened(monkeypatch)
    results: list[Picture] = []
    in_time(lambda: up(PICTURE, progress=lambda *_: results.append(other(PICTURE))))
    assert len(results) == 9
    with pytest.raises(srsdk.UsageError, match="after the call"):
        in_time(
            lambda: up(
                PICTURE,
                progress=lambda *_: other(PICTURE, progress=lambda *_: up(PICTURE)),  # type: ignore[arg-type]
            )
        )
    check_idle(other, other._engine)  # type: ignore[arg-type]
    check_idle(up, engine)


def test_a_done_callback_cannot_wait_for_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in a worker: `close` and `result` would wait for it; a call would not."""
    up, engine = opened(monkeypatch)
    seen: list[Any] = []
    ended = threading.Event()

    def after(_: Any) -> None:
        for use in (USES["close"], USES["result"]):
            try:
                use(up)
            except srsdk.UsageError as error:
                seen.append(error)
        seen.append(up(PICTURE))
        ended.set()

    def slow(*_: int) -> None:
        # the callback must be there before the end
        started.wait(END_S)

    started = threading.Event()
    future = up.submit(PICTURE, progress=slow)
    future.add_done_callback(after)
    started.set()
    assert ended.wait(END_S)
    assert [type(each).__name__ for each in seen] == ["UsageError", "UsageError", "ndarray"]
    check_idle(up, engine)


def test_a_chain_closes_all_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither called nor closed from its own progress, whichever model computes."""
    first, first_engine = opened(monkeypatch)
    second, second_engine = opened(monkeypatch)
    chain = srsdk.Chain(first, second)
    seen: list[str] = []

    def progress(done: int, total: int) -> None:
        for use in (chain.close, lambda: chain(PICTURE), second.close, first.close):
            with pytest.raises(srsdk.UsageError, match="after the call") as error:
                use()
            seen.append(str(error.value))

    result = in_time(lambda: chain(PICTURE, progress=progress))
    np.testing.assert_array_equal(result, doubled(doubled(PICTURE)))
    assert len(seen) > 4 * 9
    check_idle(first, first_engine)
    check_idle(second, second_engine)


def test_a_sampler_too() -> None:
    """`sample` holds the slots like a call."""
    with srsdk.Sampler("vae_x4", tile=32) as up:
        seen: list[str] = []

        def progress(done: int, total: int) -> None:
            for use in (lambda: up.sample(PICTURE), up.close, lambda: up(PICTURE)):
                with pytest.raises(srsdk.UsageError, match="after the call") as error:
                    use()
                seen.append(str(error.value))

        drawn = in_time(lambda: up.sample(PICTURE, 1, progress=progress))
        np.testing.assert_array_equal(drawn.samples[0], up.sample(PICTURE, 1).samples[0])
    assert seen


@pytest.mark.parametrize("in_worker", [False, True], ids=["call", "submit"])
@pytest.mark.parametrize(
    "kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, MemoryError]
)
def test_whatever_progress_raises_leaves_the_slots_idle(
    monkeypatch: pytest.MonkeyPatch, kind: type[BaseException], in_worker: bool
) -> None:
    """At the first tile, in the middle and at the last."""
    up, engine = opened(monkeypatch)
    for at in (1, 5, 9):

        def progress(done: int, total: int, at: int = at) -> None:
            if done == at:
                raise kind("by the test")

        use = up.submit if in_worker else up
        with pytest.raises((kind, srsdk.PictureError)):
            ended(use(PICTURE, progress=progress))
    check_idle(up, engine)


def test_two_threads_close_while_others_call() -> None:
    """Calls end with their result or with `BackendError`, and nothing hangs."""
    for backend in ("openvino", "onnxruntime"):
        for _ in range(4):
            up = srsdk.Upscaler("gan_x2", backend=backend, tile=24)
            expected = up(PICTURE)

            def call(up: srsdk.Upscaler = up, expected: Picture = expected) -> int:
                for count in range(100):
                    try:
                        np.testing.assert_array_equal(up(PICTURE), expected)
                    except srsdk.BackendError:
                        return count
                raise AssertionError("it was never closed")

            with ThreadPoolExecutor(5) as pool:
                calls = [pool.submit(call) for _ in range(3)]
                pool.submit(up.submit, PICTURE).result(END_S)
                closes = [pool.submit(up.close) for _ in range(2)]
                for future in (*closes, *calls):
                    ended(future)
            up.close()


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_cancelled_tasks_leave_the_slots_idle(backend: Backend) -> None:
    """200 tasks cancelled at random moments, in three ways; results in between are right.

    On a busy machine a task may be done before its timeout is looked at.
    """
    choice = random.Random(0)
    late: list[int] = []

    async def failing_group(up: srsdk.Upscaler, after_s: float) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(up.aupscale(PICTURE))
            await asyncio.sleep(after_s)
            raise ValueError

    async def cancelled(up: srsdk.Upscaler, number: int) -> None:
        after_s = choice.uniform(0, 0.02)
        if number % 3 == 0:
            task = asyncio.create_task(up.aupscale(PICTURE))
            await asyncio.sleep(after_s)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif number % 3 == 1:
            try:
                await asyncio.wait_for(up.aupscale(PICTURE), after_s / 100)
            except TimeoutError:
                late.append(number)
        else:
            with pytest.raises(ExceptionGroup):
                await failing_group(up, after_s)

    async def main(up: srsdk.Upscaler) -> None:
        expected = await up.aupscale(PICTURE)
        for number in range(200):
            await cancelled(up, number)
            if number % 20 == 0:
                np.testing.assert_array_equal(await up.aupscale(PICTURE), expected)
        np.testing.assert_array_equal(up(PICTURE), expected)

    with srsdk.Upscaler("gan_x2", backend=backend, tile=24) as up:
        in_time(lambda: asyncio.run(main(up)))
        pool = up._pipeline._pool
        assert {k: len(slots) for k, slots in pool._idle.items()} == pool._made
    assert late


INTERRUPTED = """
import os, random, signal, sys, threading, time
import numpy as np
import srsdk

backend, deadline = sys.argv[1], sys.argv[2] == "deadline"
signal.signal(signal.SIGINT, signal.default_int_handler)
choice = random.Random(1)
options = {"timeout": 600} if deadline else {}
picture = np.arange(40 * 40 * 3).reshape(40, 40, 3).astype(np.uint8)
up = srsdk.Upscaler("gan_x2", backend=backend, tile=24)
expected = up(picture)
hits = 0
for number in range(30):
    began = time.monotonic()
    up(picture, **options)
    seconds = time.monotonic() - began
    timer = threading.Timer(choice.uniform(0, seconds), os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        up(picture, **options)
        timer.join()
    except KeyboardInterrupt:
        hits += 1
    timer.join()
    assert np.array_equal(up(picture, timeout=120), expected), number
up.close()
print("hits", hits)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("deadline", ["deadline", "none"])
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_ctrl_c_at_random_moments(backend: Backend, deadline: str) -> None:
    """After each of them the next call is right."""
    call = [sys.executable, "-c", INTERRUPTED, backend, deadline]
    done = subprocess.run(call, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 5
