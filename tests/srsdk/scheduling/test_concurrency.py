"""Futures, streams, batches, asyncio and deadlines, with a fake engine and with real ones."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import assert_type

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import srsdk
from tests.conftest import Picture, make_picture
from tests.fakes.engine import FakeEngine, fake_manifest
from tests.srsdk.test_upscaler import open_fake


def doubled(picture: Picture) -> Picture:
    """Return the fake's result for a picture."""
    result: Picture = picture.repeat(2, axis=0).repeat(2, axis=1)
    return result


def until(condition: Callable[[], bool]) -> None:
    """Wait until another thread makes a condition true."""
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("waited for 10 s")


@pytest.fixture
def gate() -> threading.Semaphore:
    """Permits for tiles."""
    return threading.Semaphore(0)


@pytest.fixture
def engine(gate: threading.Semaphore) -> FakeEngine:
    """A fake engine in which each tile waits for a permit."""
    return FakeEngine(gate=gate)


@pytest.fixture
def gated(engine: FakeEngine, gate: threading.Semaphore) -> Iterator[srsdk.Upscaler]:
    """An Upscaler with two slots and 16 px tiles over the gated fake."""
    with pytest.MonkeyPatch.context() as patch:
        up = open_fake(patch, engine, fake_manifest(), tile=16)
    yield up
    gate.release(10_000)
    up.close()
    assert all(slot.closed for slot in engine.slots)


def open_free(monkeypatch: pytest.MonkeyPatch) -> srsdk.Upscaler:
    """Open an Upscaler over a fake without a gate."""
    return open_fake(monkeypatch, FakeEngine(), fake_manifest(), tile=16)


def test_a_stream_is_in_order_lazy_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of mixed sizes come back in order; never more than `ahead` are held."""
    up = open_free(monkeypatch)
    pictures = [make_picture(10 + index % 7, 40, seed=index) for index in range(50)]
    pulled = 0

    def source() -> Iterator[Picture]:
        nonlocal pulled
        for picture in pictures:
            pulled += 1
            yield picture

    for index, result in enumerate(up.stream(source(), ahead=3)):
        np.testing.assert_array_equal(result, doubled(pictures[index]))
        assert pulled <= index + 3
    assert pulled == 50


def test_a_stream_is_full_across_pictures(gated: srsdk.Upscaler, engine: FakeEngine) -> None:
    """While one tile computes, the next picture's waits in the other slot."""
    stream = gated.stream(make_picture(16, 16) for _ in range(20))
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(next, stream)
        until(lambda: engine.submitted == 2)
        assert engine.gate is not None
        # for all that have begun: any two of them may wait at the gate first
        engine.gate.release(gated.ahead)
        first.result(120)
    until(lambda: engine.submitted >= 3)
    stream.close()


def test_the_next_picture_begins_before_this_one_ends(
    gated: srsdk.Upscaler, engine: FakeEngine
) -> None:
    """The slot of the second-to-last tile goes to the next picture at once."""
    first, second = gated.submit(make_picture(16, 40)), gated.submit(make_picture(16, 16))
    tiles = 4
    assert engine.gate is not None
    until(lambda: engine.submitted == 2)
    engine.gate.release(tiles - 1)
    until(lambda: engine.submitted == tiles + 1)
    assert not first.done()
    engine.gate.release(2)
    assert second.result(120).shape == (32, 32, 3)


def test_a_call_inside_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A paused stream holds no slot, so its consumer can use the same Upscaler."""
    up = open_free(monkeypatch)
    picture = make_picture(40, 40)
    for result in up.stream([picture] * 10):
        np.testing.assert_array_equal(up(picture), result)


def test_a_closed_stream_stops(gated: srsdk.Upscaler, engine: FakeEngine) -> None:
    """Closing a stream cancels the pictures started ahead."""
    stream = gated.stream([make_picture(60, 60)] * 5)
    assert engine.gate is not None
    tiles = 36
    engine.gate.release(2 * tiles)
    next(stream)
    stream.close()
    engine.gate.release(100)
    until(lambda: engine.submitted == engine.waited)
    time.sleep(0.05)
    assert engine.submitted < 3 * tiles


def test_a_bad_picture_fails_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier results come first, whether the picture or its source fails."""
    up = open_free(monkeypatch)
    good, bad = make_picture(8, 8), np.zeros((4, 4, 5), np.uint8)
    seen: list[Picture] = []
    with pytest.raises(srsdk.PictureError, match="shape"):
        seen.extend(up.stream([good, good, bad, good]))  # a list keeps what it was given
    assert len(seen) == 2

    def broken() -> Iterator[Picture]:
        yield good
        yield good
        raise OSError("the camera is gone")

    seen = []
    with pytest.raises(OSError, match="camera"):
        seen.extend(up.stream(broken()))
    assert len(seen) == 2
    with pytest.raises(srsdk.UsageError, match="ahead is 0"):
        up.stream([good], ahead=0)


def test_a_future_is_what_a_call_returns(tmp_path: Path, picture: Picture) -> None:
    """Futures of arrays, images and files return typed results; progress is called."""
    Image.fromarray(picture).save(tmp_path / "in.png")
    seen: list[tuple[int, int]] = []
    with srsdk.Upscaler("gan_x2", tile=50) as up:
        expected = up(picture)
        future = up.submit(picture, progress=lambda *both: seen.append(both))
        assert_type(future, Future[npt.NDArray[np.uint8]])
        np.testing.assert_array_equal(future.result(), expected)
        image = up.submit(Image.fromarray(picture))
        assert_type(image, Future[Image.Image])
        np.testing.assert_array_equal(np.asarray(image.result()), expected)
        np.testing.assert_array_equal(up.submit(tmp_path / "in.png").result(), expected)
        with pytest.raises(srsdk.PictureError, match="no such file"):
            up.submit(tmp_path / "gone.png").result()
    assert seen[-1] == (len(seen), len(seen))


def test_cancel_before_it_begins(gated: srsdk.Upscaler) -> None:
    """A queued future is cancelled like any other future."""
    futures = [gated.submit(make_picture(16, 16)) for _ in range(8)]
    assert futures[-1].cancel()
    assert futures[-1].cancelled()
    with pytest.raises(CancelledError):
        futures[-1].result()


def test_cancel_stops_within_one_tile(gated: srsdk.Upscaler, engine: FakeEngine) -> None:
    """A picture being computed is stopped; the Upscaler continues with the next."""
    assert engine.gate is not None
    picture = make_picture(60, 60)
    future = gated.submit(picture)
    engine.gate.release(3)
    until(lambda: engine.waited == 3)
    assert future.cancel()
    assert not future.cancelled()
    engine.gate.release(100)
    with pytest.raises(CancelledError):
        future.result(120)
    assert future.cancelled()
    assert engine.submitted <= 3 + 2 + 1, "done, in flight, and the one that was being cut"
    assert future.cancel()
    np.testing.assert_array_equal(gated(picture), doubled(picture))


def test_cancel_while_it_waits_for_a_slot(gated: srsdk.Upscaler, engine: FakeEngine) -> None:
    """Cancelling a waiting call leaves earlier calls their slots."""
    first = [gated.submit(make_picture(16, 16)) for _ in range(2)]
    until(lambda: engine.submitted == 2)
    waiting = gated.submit(make_picture(16, 16))
    until(waiting.running)
    assert waiting.cancel()
    assert wait([waiting], 10).done
    assert engine.gate is not None
    engine.gate.release(2)
    assert [future.result(120).shape for future in first] == [(32, 32, 3)] * 2


def test_a_done_future_cannot_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelling a finished future keeps its result."""
    future = open_free(monkeypatch).submit(make_picture(8, 8))
    future.result()
    assert not future.cancel()
    assert not future.cancelled()
    assert future.result().shape == (16, 16, 3)


def test_deadlines(gated: srsdk.Upscaler, engine: FakeEngine) -> None:
    """A late call raises our `TimeoutError`, in the queue and between tiles."""
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(gated, make_picture(60, 60), timeout=0.05)
        queued = gated.submit(make_picture(16, 16), timeout=0.05)
        time.sleep(0.1)
        assert engine.gate is not None
        engine.gate.release(10)
        with pytest.raises(srsdk.DeadlineExceeded, match=r"not done within 0\.05 s"):
            late.result(120)
        with pytest.raises(srsdk.SrsdkError) as error:
            queued.result(120)
    assert isinstance(error.value, TimeoutError)
    assert engine.submitted <= 3
    for timeout in (0, -1, float("nan")):
        with pytest.raises(srsdk.UsageError, match="expected seconds above 0"):
            gated(make_picture(8, 8), timeout=timeout)
    engine.gate.release(10)
    assert gated(make_picture(8, 8), timeout=60).shape == (16, 16, 3)


def test_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many coroutines run on one loop."""
    up = open_free(monkeypatch)
    pictures = [make_picture(20, 30, seed=index) for index in range(12)]

    async def main() -> list[Picture]:
        return await asyncio.gather(*(up.aupscale(picture) for picture in pictures))

    for picture, result in zip(pictures, asyncio.run(main()), strict=True):
        np.testing.assert_array_equal(result, doubled(picture))


def test_cancelling_a_task_stops_the_computation(gated: srsdk.Upscaler, engine: FakeEngine) -> None:
    """`asyncio.timeout`, which cancels the task, stops it within one tile."""

    async def main() -> None:
        assert engine.gate is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await gated.aupscale(make_picture(60, 60))
        engine.gate.release(100)
        task = asyncio.create_task(gated.aupscale(make_picture(16, 16)))
        assert (await task).shape == (32, 32, 3)

    asyncio.run(main())
    assert engine.submitted <= 3 + 1


def test_a_batch_counts_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """All results in order; `progress` counts pictures and can stop the rest."""
    up = open_free(monkeypatch)
    pictures = [make_picture(8 + index, 12, seed=index) for index in range(6)]
    seen: list[tuple[int, int]] = []
    results = up.batch(pictures, progress=lambda *both: seen.append(both))
    assert_type(results, list[npt.NDArray[np.uint8]])
    for picture, result in zip(pictures, results, strict=True):
        np.testing.assert_array_equal(result, doubled(picture))
    assert seen == [(index + 1, 6) for index in range(6)]
    assert up.batch([]) == []

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        up.batch(pictures, progress=stop)


def test_close_finishes_what_has_begun(engine: FakeEngine, gate: threading.Semaphore) -> None:
    """Queued calls are cancelled, and no future waits forever."""
    with pytest.MonkeyPatch.context() as patch:
        up = open_fake(patch, engine, fake_manifest(), tile=16)
    futures = [up.submit(make_picture(16, 16)) for _ in range(12)]
    until(lambda: engine.submitted == 2)
    gate.release(100)
    up.close()
    assert all(future.done() for future in futures)
    assert all(future.cancelled() or future.result().shape == (32, 32, 3) for future in futures)
    assert not futures[0].cancelled()
    for use in (up.submit, up, lambda picture: list(up.stream([picture]))):
        with pytest.raises(srsdk.BackendError, match="closed"):
            use(make_picture(8, 8))


def test_threads_are_served_in_their_order(gated: srsdk.Upscaler, engine: FakeEngine) -> None:
    """Calls from several threads are served first come, first served."""
    assert engine.gate is not None
    order: list[int] = []

    def call(number: int) -> None:
        gated(make_picture(16, 16))
        order.append(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for _ in threads:
        engine.gate.release()
        time.sleep(0.05)
    for thread in threads:
        thread.join(120)
    assert order[2:] == sorted(order[2:])
