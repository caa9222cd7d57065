"""Real calls without what containers take away: threads, memory, a home, a disk to write on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from srsdk.engines.backends import BACKENDS
from tests.disks import make_read_only, small_disk

USER_ID = 54321
"""Of a user that nobody knows."""
as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="becoming another user takes root on Linux"
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")

BEGIN = """
import asyncio, concurrent.futures.thread, logging, os, resource, sys, threading
import numpy as np
import srsdk

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
picture = np.arange(60 * 60 * 3).reshape(60, 60, 3).astype(np.uint8)
backend = sys.argv[1]
"""


def run(code: str, *arguments: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run a child to its end; a hang is a failure."""
    changed = {**os.environ, **environment}
    kept = {name: value for name, value in changed.items() if value is not None}
    call = [sys.executable, "-c", BEGIN + code, *arguments]
    return subprocess.run(call, env=kept, capture_output=True, text=True, timeout=300)


NO_THREADS = f"""
up = srsdk.Upscaler("gan_x2", backend=backend, tile=24)
expected = up(picture)
other = srsdk.Upscaler("gan_x2", backend=backend, tile=24)
other(picture)
threads = len(os.listdir("/proc/self/task"))
os.setuid({USER_ID})
limits = resource.getrlimit(resource.RLIMIT_NPROC)
resource.setrlimit(resource.RLIMIT_NPROC, (threads, limits[1]))
for use in (
    lambda: up(picture, timeout=60),
    lambda: up.submit(picture),
    lambda: up.batch([picture]),
    lambda: asyncio.run(up.aupscale(picture)),
    lambda: srsdk.Upscaler("gan_x2", backend="onnxruntime", threads=3),
):
    for _ in range(2):
        try:
            use()
        except srsdk.SrsdkError as error:
            print(type(error).__name__, error)
        else:
            sys.exit("a thread was started")
    assert np.array_equal(up(picture), expected)
resource.setrlimit(resource.RLIMIT_NPROC, limits)
assert np.array_equal(up(picture, timeout=60), expected)
assert np.array_equal(up.submit(picture).result(60), expected)
up.close()
other.close()
"""


@as_root
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_threads_to_be_had(backend: str) -> None:
    """Each way of calling is a BackendError with the limit's name, and works again afterwards."""
    done = run(NO_THREADS, backend)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 10
    assert all(line.startswith(("BackendError", "ModelError")) for line in lines)
    assert all("refuses to start a thread" in line for line in lines[:8]), lines


NO_MEMORY = """
up = srsdk.Upscaler("gan_x2", backend=backend, tile=48, threads=1)
wide = srsdk.Upscaler("gan_x2", backend=backend, tile=1600, threads=1)
small = np.zeros((80, 80, 3), np.uint8)
large = np.zeros((4000, 4000, 3), np.uint8)
deep = large.astype(np.uint16)
expected = up(small)
up(small, timeout=60)
up.submit(small).result()
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (used + (160 << 20), hard))
for use in (
    lambda: up(large),
    lambda: up(large, timeout=60),
    lambda: up.submit(large).result(60),
    lambda: up(deep),
    lambda: wide(large[:1600, :1600]),
    lambda: srsdk.Upscaler("gan_x4", backend=backend)(large),
):
    try:
        use()
    except srsdk.SrsdkError as error:
        print(type(error).__name__, error)
    else:
        sys.exit("it fits")
    assert np.array_equal(up(small), expected)
    assert np.array_equal(up(small, timeout=60), expected)
up.close()
"""


@linux
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_memory_to_be_had(backend: str) -> None:
    """Under `ulimit -v` a call too large is an SrsdkError, and the next, smaller one works."""
    done = run(NO_MEMORY, backend)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 6


NO_HOME = f"""
from srsdk import doctor
from srsdk.cli.main import main

doctor._self_tests = lambda: []  # of all models, which takes long
# once before: the other user may not be allowed to read this Python's libraries
srsdk.Upscaler("gan_x2", backend=backend, self_test=False)(picture)
main(["doctor"])
np.random.default_rng(0)
print("== as the other user")
os.environ.pop("HOME", None)
os.environ.pop("SRSDK_CACHE")
os.setuid({USER_ID})
for _ in range(2):
    with srsdk.Upscaler("gan_x2", backend=backend) as up:
        assert up(picture).shape == (120, 120, 3)
with srsdk.Upscaler("gan_x2.int8", backend=backend, tune=True) as up:
    assert up(picture).shape == (120, 120, 3)
sys.exit(main(["doctor"]))
"""


@as_root
def test_no_home_and_an_unknown_user() -> None:
    """As in `docker run -u 54321`: it computes, says once that nothing is cached, and the fix."""
    done = run(NO_HOME, "onnxruntime", XDG_CACHE_HOME=None)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no cache: this user has no home directory") == 1
    report = done.stdout.partition("== as the other user")[2]
    assert "[--] cache: this user has no home directory" in report
    assert "export SRSDK_CACHE=FOLDER" in report


READ_ONLY = """
for _ in range(2):
    with srsdk.Upscaler("gan_x2", backend=backend) as up:
        assert up(picture).shape == (120, 120, 3)
"""


def test_a_read_only_root(tmp_path: Path) -> None:
    """A cache that cannot be written is said once, and the call works."""
    with small_disk(tmp_path / "disk") as disk:
        make_read_only(disk)
        done = run(READ_ONLY, "onnxruntime", SRSDK_CACHE=None, HOME=str(disk), XDG_CACHE_HOME=None)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("cannot be written") == 1
