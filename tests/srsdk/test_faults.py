"""Faults: a backend that fails at a given tile, and memory that runs out; then recovery."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import srsdk
from srsdk.cli.main import main
from srsdk.engines.protocol import Signature
from tests.conftest import Picture, make_picture
from tests.fakes.engine import FakeEngine, FakeSlot, fake_manifest
from tests.srsdk.test_upscaler import open_fake

Output = npt.NDArray[Any]
TILES = 9


class FaultySlot(FakeSlot):
    """Passes its output through the engine's `fault`."""

    def wait(self) -> Output:
        """Compute, and corrupt the output at the given tile."""
        number = self._faulty.waited
        output = super().wait()
        return self._faulty.fault(output) if number == self._faulty.fault_at else output

    _faulty: FaultyEngine


class FaultyEngine(FakeEngine):
    """The fake engine with one fault."""

    def __init__(self, fault: Callable[[Output], Output], fault_at: int, dtype: str) -> None:
        super().__init__()
        self.fault, self.fault_at, self.dtype = fault, fault_at, dtype
        self.signature = Signature(dtype, (None, None, None, 3), (None, None, None, 3))

    def slot(self, input_shape: tuple[int, ...]) -> FaultySlot:
        """Make a faulty slot."""
        slot = FaultySlot(self, input_shape)
        slot.input = np.zeros(input_shape, self.dtype)
        slot._faulty = self
        self.slots.append(slot)
        return slot


def opened(
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Output], Output],
    at: int,
    dtype: str = "uint8",
) -> tuple[srsdk.Upscaler, FaultyEngine]:
    """Open an Upscaler that cuts nine tiles, one of them with a fault."""
    engine = FaultyEngine(fault, at, dtype)
    manifest = dataclasses.replace(fake_manifest(), dtype=dtype)
    return open_fake(monkeypatch, engine, manifest, tile=16, slots=2), engine


def doubled(picture: Picture) -> Picture:
    """Return the fake's result for a picture."""
    return picture.repeat(2, axis=0).repeat(2, axis=1)


def failed(_: Output) -> Output:
    """Fail as backends do."""
    raise srsdk.BackendError("the device is gone")


def surprised(_: Output) -> Output:
    """Fail with an unexpected exception."""
    raise ZeroDivisionError


def with_nan(output: Output) -> Output:
    """Set one value to NaN."""
    output[0, 0, 0, 0] = np.nan
    return output


@pytest.mark.parametrize("at", [0, 1, 4, TILES - 1])
@pytest.mark.parametrize(
    ("fault", "dtype", "error", "message"),
    [
        (failed, "uint8", srsdk.BackendError, "the device is gone"),
        (surprised, "uint8", ZeroDivisionError, None),
        (with_nan, "float32", srsdk.HealthError, "1 NaN or infinite values"),
        (lambda o: o[:, :-1], "uint8", srsdk.BackendError, r"expected \(1, 32, 32, 3\)"),
        (lambda o: o.repeat(2, axis=2), "uint8", srsdk.BackendError, r"returned \(1, 32, 64, 3\)"),
        (lambda o: o[..., :1], "uint8", srsdk.BackendError, "expected"),
        (lambda o: o[0], "uint8", srsdk.BackendError, "expected"),
        (lambda o: o.transpose(0, 3, 1, 2), "uint8", srsdk.BackendError, "expected"),
    ],
    ids=["raises", "surprises", "nan", "short", "long", "gray", "flat", "turned"],
)
def test_a_fault_in_one_tile(
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Output], Output],
    dtype: str,
    error: type[Exception],
    message: str | None,
    at: int,
) -> None:
    """The fault raises one clear error at any tile; the next call succeeds in the same slots."""
    up, engine = opened(monkeypatch, fault, at, dtype)
    picture = make_picture(30, 30)
    with pytest.raises(error, match=message):
        up(picture)
    np.testing.assert_array_equal(up(picture), doubled(picture))
    assert len(engine.slots) == 2
    up.close()
    assert all(slot.closed for slot in engine.slots)


@pytest.mark.parametrize("at", [0, 4, TILES - 1])
def test_a_deadline_ends_a_hang(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """All callers continue; when the hanging library returns, so does its slot."""
    hanging = threading.Event()

    def hang(output: Output) -> Output:
        assert hanging.wait(60), "the test forgot it"
        return output

    up, engine = opened(monkeypatch, hang, at)
    picture = make_picture(30, 30)
    with pytest.raises(srsdk.DeadlineExceeded, match="not done within"):
        up(picture, timeout=0.3)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(up, [picture] * 4))
    for result in results:
        np.testing.assert_array_equal(result, doubled(picture))
    hanging.set()
    for thread in threading.enumerate():
        if thread.name == "srsdk-wait":
            thread.join(120)
    assert up._pipeline._pool._idle[(1, 16, 16, 3)].count(engine.slots[0]) == 1
    assert len(up._pipeline._pool._idle[(1, 16, 16, 3)]) == len(engine.slots) == 2
    up.close()
    assert all(slot.closed for slot in engine.slots)


@pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None, reason="this Python has no test hooks"
)
def test_any_allocation_may_fail(repository: Path) -> None:
    """One failed allocation raises an error and loses no slot; the next call succeeds.

    Tests every fifth allocation; `python -m tests.faults.memory` tests all of them.
    """
    command = [sys.executable, "-m", "tests.faults.memory", "--step", "5"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["PictureError"] > 100


ARRAYS = ("empty", "zeros", "full", "pad", "rint", "clip", "dstack", "ascontiguousarray")


@pytest.mark.parametrize("name", ARRAYS)
def test_no_memory_for_an_array(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    """A failed array on the command line: one message, no partial file, other pictures are done."""
    source = tmp_path / "in"
    source.mkdir()
    for seed in range(2):
        image = Image.fromarray(make_picture(20, 30, seed)).convert("RGBA")
        image.putalpha(Image.linear_gradient("L").resize((30, 20)))
        image.save(source / f"{seed}.png")
    real, count, fault_at = getattr(np, name), 0, -1

    def short(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == fault_at:
            raise MemoryError
        return real(*arguments, **options)

    call = ["upscale", str(source), "--scale", "2", "--jobs", "1", "--threads", "1", "-o"]
    monkeypatch.setattr(np, name, short)
    assert main([*call, str(tmp_path / "whole")]) == 0
    for fault_at in range(1, count + 1, max(1, count // 3)):
        count = 0
        out = tmp_path / f"{fault_at}"
        code = main([*call, str(out)])
        error = capsys.readouterr().err
        if code:
            assert "memory" in error
        assert {path.name for path in out.glob("*")} <= {"0.png", "1.png"}
