"""What all tests share."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

from tests.last_line import pytest_sessionfinish as pytest_sessionfinish
from tests.optional import pytest_make_collect_report as pytest_make_collect_report

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# what a test finds out about this machine is not remembered for the user
_cache = tempfile.TemporaryDirectory(prefix="srsdk-tests-", ignore_cleanup_errors=True)
os.environ["SRSDK_CACHE"] = _cache.name
# threads that spin while they wait starve a shared machine; read when torch is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# a machine that is busy for 200 ms proves nothing
settings.register_profile("srsdk", deadline=None)
settings.load_profile("srsdk")

Picture = npt.NDArray[np.uint8]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Skip what starts this Python anew where the system cannot: an emulated one."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOEXEC and error.filename == sys.executable:
            pytest.skip("starts Python anew, and the system cannot start this one (emulated)")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """The same for fixtures."""
    yield from pytest_runtest_call()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def test_sets() -> Path:
    """The folder that holds Set5, Set14 and BSD100, or a visible skip."""
    root = os.environ.get("SRSDK_DATA")
    if not root:
        pytest.skip("needs the test sets: set SRSDK_DATA to the folder that holds test/Set5")
    folder = Path(root) / "test"
    if not folder.is_dir():
        pytest.fail(f"SRSDK_DATA={root} holds no folder named test")
    return folder


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C is heeded, here and in the processes started from here.

    A shell lets what it starts in the background ignore it.
    """
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def picture() -> Picture:
    """A picture with smooth parts, edges and noise; sides are primes, height is not width."""
    return make_picture(67, 101)


def make_picture(height: int, width: int, seed: int = 0) -> Picture:
    """Make (height, width, 3) uint8: a ramp, a disc, and noise in one half."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    ramp = np.stack([x / width, y / height, (x + y) / (width + height)], axis=-1) * 255
    disc = ((y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 4) ** 2)[..., None]
    noise = random.normal(0, 30, (height, width, 3)) * (x > width / 2)[..., None]
    drawn = np.where(disc, 255 - ramp, ramp) + noise
    result: Picture = np.clip(drawn, 0, 255).astype(np.uint8)
    return result
