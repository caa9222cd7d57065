"""Fixtures and hooks that all tests share."""

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
# keep what tests measure on this machine out of the user's cache
_cache = tempfile.TemporaryDirectory(prefix="srsdk-tests-", ignore_cleanup_errors=True)
os.environ["SRSDK_CACHE"] = _cache.name
# and what a user has fetched out of the tests
os.environ["SRSDK_MODELS"] = os.path.join(_cache.name, "models")
# threads that spin while they wait starve a shared machine; read when torch is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# a slow example on a busy machine is no failure
settings.register_profile("srsdk", deadline=None)
settings.load_profile("srsdk")

Picture = npt.NDArray[np.uint8]
THOROUGH = (
    *("export/sources", "export/quantization", "export/targets/test_t", "export/test_", "faults"),
    *("training/data", "training/evaluation", "training/objectives", "training/test_"),
    *("benchmarks", "test_", "srsdk/test_upscaler", "srsdk/test_properties", "srsdk/test_soak"),
    *(
        "srsdk/test_hostile.py",
        "srsdk/test_examples",
        "srsdk/test_faults",
        "srsdk/cli",
        "srsdk/batch",
    ),
    *("srsdk/video", "srsdk/autotune", "srsdk/inference/test_self_test", "srsdk/upscaling"),
    *(
        "powercut/test_cuts",
        "srsdk/system/test_disks",
        "srsdk/scheduling/test_threads",
        "srsdk/scheduling/test_callbacks",
        "srsdk/test_containers",
        "srsdk/serving",
        "srsdk/formats/test_onnx_rewrite",
    ),
)
"""Where tests train, export, start processes or run whole models: not `-m fast`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `fast` what is neither slow nor in `THOROUGH`."""
    here = Path(__file__).parent
    for item in items:
        where = item.path.relative_to(here).as_posix() if here in item.path.parents else ""
        is_thorough = where.startswith(THOROUGH) and where != "test_architecture.py"
        if not is_thorough and item.get_closest_marker("slow") is None:
            item.add_marker("fast")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """Skip tests that start a Python process on emulated systems that cannot do so."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOEXEC and error.filename == sys.executable:
            pytest.skip("starts a Python process, which this (emulated) system cannot do")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    """Do the same for fixtures."""
    yield from pytest_runtest_call()


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def test_sets() -> Path:
    """Folder with Set5, Set14 and BSD100; without it, the test is skipped."""
    root = os.environ.get("SRSDK_DATA")
    if not root:
        pytest.skip("needs the test sets: set SRSDK_DATA to the folder that contains test/Set5")
    folder = Path(root) / "test"
    if not folder.is_dir():
        pytest.fail(f"SRSDK_DATA={root} contains no folder named test")
    return folder


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Enable Ctrl-C here and in the processes started from here.

    A shell makes its background processes ignore it.
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
