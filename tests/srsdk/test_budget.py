"""`Budget`: what pictures may take together, checked before and while they are decoded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk import Budget
from srsdk.image import decode
from srsdk.scheduling.context import Call
from srsdk.system import memory_limits
from srsdk.upscaling import files
from srsdk.upscaling.steps import Step
from tests.fuzz.workplace import NEAREST

MIB = 1 << 20


def step(run: Callable[[Any, Call], Any]) -> Step:
    """Return a step that enlarges twice with `run`."""
    return Step("test", 2, 0, 1, run, lambda *_: 1)


def budget_of(mib: int, **limits: Any) -> Budget:
    """Return a budget of some memory besides the fixed part."""
    return Budget(memory_bytes=memory_limits.FIXED_BYTES + mib * MIB, **limits)


@contextmanager
def held(budget: Budget, need_bytes: int) -> Iterator[None]:
    """Hold memory in another thread."""
    taken, ends = threading.Event(), threading.Event()

    def hold() -> None:
        with budget.reserve(need_bytes):
            taken.set()
            assert ends.wait(60)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(hold)
        assert taken.wait(60)
        yield
        ends.set()
        future.result()


@pytest.mark.parametrize("name", ["memory_bytes", "pixels", "seconds", "pages"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "1", True])
def test_a_limit_is_above_0(name: str, value: object) -> None:
    """A limit that can never work is an error at once."""
    with pytest.raises(srsdk.UsageError, match=name):
        Budget(**{name: value})  # type: ignore[arg-type]


def test_pictures_that_fit_one_by_one_wait_for_each_other() -> None:
    """Five pictures of 12 MiB each within 30 MiB: two are in work at a time, and all are done."""
    budget, seen = budget_of(30), []

    def run(rgb: Any, call: Call) -> Any:
        seen.append(budget.reserved_bytes)
        time.sleep(0.05)
        return rgb.repeat(2, 0).repeat(2, 1)

    def one(_: int) -> None:
        picture = np.zeros((1024, 1024, 3), np.uint8)
        large = files.upscale_any((step(run),), picture, None, Call(budget=budget))
        assert large.shape == (2048, 2048, 3)

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(one, range(5)))
    assert len(seen) == 5
    assert max(seen) == 24 * MIB
    assert budget.reserved_bytes == 0


def test_what_could_never_fit_is_refused_at_once() -> None:
    """A picture above the budget does not wait for others to finish."""
    budget = budget_of(30)
    with budget.reserve(20 * MIB), pytest.raises(srsdk.PictureError, match="bytes of memory"):
        budget.check_memory(memory_limits.FIXED_BYTES + 40 * MIB, None)


def test_a_deadline_and_a_cancellation_end_the_wait() -> None:
    """A call that waits for memory keeps its timeout, and can be cancelled; others are served."""
    budget = budget_of(30)
    picture = np.zeros((1024, 1024, 3), np.uint8)
    cancelled = Call(budget=budget)
    cancelled.cancel()
    with held(budget, 25 * MIB):
        with pytest.raises(srsdk.DeadlineExceeded):
            files.upscale_any((NEAREST,), picture, None, Call(timeout=0.1, budget=budget))
        with pytest.raises(CancelledError):
            files.upscale_any((NEAREST,), picture, None, cancelled)
    assert files.upscale_any((NEAREST,), picture, None, Call(budget=budget)).shape[0] == 2048
    assert budget.reserved_bytes == 0


def test_memory_is_given_in_order_of_arrival() -> None:
    """Small pictures that come later do not overtake a large one for ever."""
    budget, order = budget_of(30), []
    waits = threading.Event()

    def large() -> None:
        with budget.reserve(28 * MIB, waits.set):
            order.append("large")

    def small() -> None:
        with budget.reserve(MIB):
            order.append("small")

    with ThreadPoolExecutor(2) as pool:
        with budget.reserve(20 * MIB):
            first = pool.submit(large)
            assert waits.wait(10)
            second = pool.submit(small)
            time.sleep(0.2)
            assert order == []
        first.result(10), second.result(10)
    assert order == ["large", "small"]


def test_a_thread_does_not_wait_for_memory_that_it_holds() -> None:
    """A picture begun in a progress callback, beside one that fills the budget, is an error."""
    budget = budget_of(30)
    with budget.reserve(25 * MIB):
        with pytest.raises(srsdk.PictureError, match="progress callback"), budget.reserve(9 * MIB):
            pass
        with budget.reserve(2 * MIB):
            assert budget.reserved_bytes == 27 * MIB
    assert budget.reserved_bytes == 0


def test_the_deadline_covers_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that does not come back does not hold the call; its memory stays reserved."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    goes_on, budget = threading.Event(), budget_of(30)
    read = decode.read

    def hangs(*arguments: Any, **named: Any) -> Any:
        assert goes_on.wait(60)
        return read(*arguments, **named)

    monkeypatch.setattr(decode, "read", hangs)
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    with pytest.raises(srsdk.DeadlineExceeded):
        files.upscale_file((NEAREST,), source, target, call=Call(timeout=0.2, budget=budget))
    with pytest.raises(srsdk.DeadlineExceeded):
        files.upscale_any((NEAREST,), source, None, Call(timeout=0.2, budget=budget))
    assert budget.reserved_bytes > 0
    goes_on.set()
    for _ in range(600):
        if not budget.reserved_bytes:
            break
        time.sleep(0.05)
    assert budget.reserved_bytes == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_deadline_covers_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that takes too long leaves neither a target nor a temporary file."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    goes_on, save = threading.Event(), Image.Image.save

    def hangs(image: Image.Image, target: Path, **options: Any) -> None:
        if isinstance(target, Path):
            assert goes_on.wait(60)
        save(image, target, **options)

    monkeypatch.setattr(Image.Image, "save", hangs)
    with pytest.raises(srsdk.DeadlineExceeded):
        files.upscale_file((NEAREST,), tmp_path / "a.png", tmp_path / "b.png", call=Call(None, 0.3))
    goes_on.set()
    for _ in range(600):
        if threading.active_count() == 1 or not any(
            thread.name == "srsdk-work" for thread in threading.enumerate()
        ):
            break
        time.sleep(0.05)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_budgets_seconds_are_a_timeout_of_every_call() -> None:
    """`seconds` ends a call that has no timeout, or a longer one."""

    def slow(rgb: Any, call: Call) -> Any:
        for _ in range(600):
            call.check()
            time.sleep(0.05)

    for timeout in (None, 100):
        with pytest.raises(srsdk.DeadlineExceeded, match=r"within 0\.2 s"):
            files.upscale_any(
                (step(slow),), np.zeros((8, 8, 3), np.uint8), None,
                Call(None, timeout, Budget(seconds=0.2)),
            )  # fmt: skip


def test_pixels_and_pages_are_limited_for_every_kind_of_input(tmp_path: Path) -> None:
    """Arrays, Pillow images and files: the limit is named, and nothing is decoded or written."""
    small = Image.new("RGB", (20, 20))
    small.save(tmp_path / "a.png")
    small.save(
        tmp_path / "pages.tiff", save_all=True, append_images=[small, Image.new("RGB", (30, 30))]
    )
    call = Call(budget=Budget(pixels=399))
    for picture in (np.zeros((20, 20, 3), np.uint8), small, tmp_path / "a.png"):
        with pytest.raises(srsdk.PictureError, match="at most 399 are allowed"):
            files.upscale_any((NEAREST,), picture, None, call)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"pixels": 899}, "900 pixels"),
        ({"pages": 2}, "3 frames, at most 2"),
    ]
    for limits, text in cases:
        with pytest.raises(srsdk.PictureError, match=text):
            files.upscale_file(
                (NEAREST,), tmp_path / "pages.tiff", tmp_path / "out.tiff",
                call=Call(budget=Budget(**limits)),
            )  # fmt: skip
    assert not (tmp_path / "out.tiff").exists()


def test_formats_can_be_left_out(tmp_path: Path) -> None:
    """A budget names the formats that are decoded; an unknown one is an error at once."""
    small = Image.new("RGB", (20, 20))
    call = Call(budget=Budget(formats=("PNG", "JPEG")))
    for suffix in (".png", ".jpg", ".tiff", ".gif", ".webp"):
        path = tmp_path / f"a{suffix}"
        small.save(path)
        if suffix in (".png", ".jpg"):
            files.upscale_file((NEAREST,), path, tmp_path / f"b{suffix}", call=call)
            continue
        with pytest.raises(srsdk.PictureError, match="not of these formats: PNG, JPEG"):
            files.upscale_file((NEAREST,), path, tmp_path / f"b{suffix}", call=call)
    with pytest.raises(srsdk.UsageError, match="formats is"):
        Budget(formats=("PNG", "EPS"))


def test_an_upscaler_its_futures_and_chains_have_the_budget(picture: Any) -> None:
    """The budget given to an Upscaler is that of all its calls."""
    budget = Budget(pixels=100)
    with srsdk.Upscaler("gan_x2", budget=budget) as up, srsdk.Chain(up) as chain:
        calls: list[Callable[[Any], Any]] = [up, chain, lambda each: up.submit(each).result()]
        for call in calls:
            with pytest.raises(srsdk.PictureError, match="at most 100 are allowed"):
                call(picture)


def test_an_interrupt_gives_the_memory_back() -> None:
    """Ctrl-C while waiting, or in the work, leaves nothing reserved and nobody in the queue."""
    budget = budget_of(30)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with (
        held(budget, 25 * MIB),
        pytest.raises(KeyboardInterrupt),
        budget.reserve(MIB * 9, interrupt),
    ):
        pass
    with pytest.raises(KeyboardInterrupt), budget.reserve(MIB):
        interrupt()
    assert budget.reserved_bytes == 0
    with budget.reserve(29 * MIB):
        assert budget.reserved_bytes == 29 * MIB
