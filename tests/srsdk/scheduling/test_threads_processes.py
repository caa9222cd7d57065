"""Real engines under many threads, in several Upscalers and in several processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import srsdk
from srsdk.engines.backends import BACKENDS
from srsdk.options import Backend
from tests.conftest import Picture, make_picture


@pytest.mark.parametrize("backend", BACKENDS)
def test_sixteen_threads_hammer_one_upscaler(backend: Backend) -> None:
    """Concurrent calls, futures and streams of four sizes give the same results as serial calls."""
    sizes = [(31, 47), (64, 20), (20, 64), (50, 50)]
    pictures = [make_picture(*sizes[index % 4], seed=index) for index in range(16)]
    with srsdk.Upscaler("gan_x2", backend=backend, tile=30) as up:
        serial = [up(picture) for picture in pictures]

        def hammer(number: int) -> None:
            mine = [(number + step) % 16 for step in range(8)]
            want = [serial[index] for index in mine]
            asked = [pictures[index] for index in mine]
            if number % 3 == 0:
                got = [up(picture) for picture in asked]
            elif number % 3 == 1:
                got = [future.result() for future in [up.submit(picture) for picture in asked]]
            else:
                got = list(up.stream(asked, ahead=2))
            for a, b in zip(got, want, strict=True):
                np.testing.assert_array_equal(a, b)

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(hammer, range(16)))


def test_two_upscalers_in_one_process(picture: Picture) -> None:
    """Two models on two backends run at the same time; closing one leaves the other open."""
    with srsdk.Upscaler("gan_x4", backend="onnxruntime") as other:
        with srsdk.Upscaler("gan_x2") as up:
            expected, large = up(picture), other(picture)
            futures = [(up.submit(picture), other.submit(picture)) for _ in range(4)]
            for a, b in futures:
                np.testing.assert_array_equal(a.result(), expected)
                np.testing.assert_array_equal(b.result(), large)
        np.testing.assert_array_equal(other(picture), large)


SIGNAL = """
import gc, os, signal, sys, threading
import numpy as np
import srsdk

signal.signal(signal.SIGINT, signal.default_int_handler)
opened = [srsdk.Upscaler("gan_x2", backend=sys.argv[1])]
opened[0](np.zeros((8, 8, 3), np.uint8))

def drop():
    opened.pop().close()
    gc.collect()

thread = threading.Thread(target=drop)
thread.start()
thread.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_after_another_thread_closed_it(backend: Backend) -> None:
    """If another thread unloads OpenVINO's plugin, any signal causes a segmentation fault."""
    call = [sys.executable, "-c", SIGNAL, backend]
    result = subprocess.run(call, capture_output=True, text=True, timeout=600)
    assert (result.returncode, result.stdout) == (0, "interrupted\n"), result.stderr


PROCESSES = """
import multiprocessing, pickle, sys
import numpy as np
import srsdk

picture = np.arange(20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)
inherited = None

def use_inherited():
    for use in (inherited, inherited.submit):
        try:
            use(picture)
        except srsdk.BackendError as error:
            assert "does not survive a fork" in str(error), error
        else:
            sys.exit("a fork computed")
    inherited.close()

def open_own(expected):
    with srsdk.Upscaler("gan_x2", backend=sys.argv[1]) as up:
        np.testing.assert_array_equal(up(picture), expected)
        np.testing.assert_array_equal(up.submit(picture).result(), expected)

def run(method, target, *args):
    process = multiprocessing.get_context(method).Process(target=target, args=args)
    process.start()
    process.join(60)
    assert process.exitcode == 0, (method, target.__name__, process.exitcode)

if __name__ == "__main__":
    with srsdk.Upscaler("gan_x2", backend=sys.argv[1]) as inherited:
        expected = inherited(picture)
        inherited.submit(picture).result()
        run("spawn", open_own, expected)
        if "fork" in multiprocessing.get_all_start_methods():
            run("fork", use_inherited)
            run("fork", open_own, expected)
        np.testing.assert_array_equal(inherited(picture), expected)
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_processes(backend: Backend, tmp_path: Path) -> None:
    """A forked Upscaler raises instead of hanging; one opened in the child works, forked or not.

    The parent's Upscaler still works afterwards.
    """
    script = tmp_path / "processes.py"
    script.write_text(PROCESSES)
    call = [sys.executable, "-W", "ignore", str(script), backend]
    result = subprocess.run(call, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr


def test_it_cannot_be_pickled() -> None:
    """The error names what to do instead."""
    with srsdk.Upscaler("gan_x2") as up, pytest.raises(srsdk.UsageError, match="in each process"):
        pickle.dumps(up)
