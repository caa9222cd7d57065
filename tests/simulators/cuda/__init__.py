"""A CUDA driver without a GPU: `libcuda.so.1` in C++, which the real `cuda.bindings` loads.

Streams are CPU threads that execute their work with random delays, in no other order than streams,
events and synchronization ask for. Device memory is apart: touching it from the host ends the
process, freed memory is poisoned, and pinned memory is told from pageable. Captures refuse what
CUDA refuses. Errors come on demand; sticky ones make the context useless.

    python -m tests.simulators.cuda -m pytest tests/simulated

runs Python with the simulated driver. Nothing of it is in the wheel.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent
NAME = "libcuda.so.1"
SETTING = "SRSDK_CUDA_SIMULATOR"
"""Environment variable with the path of the library, in processes that run on the simulator."""

INVALID_VALUE, OUT_OF_MEMORY, ILLEGAL_ADDRESS, LAUNCH_FAILED, CAPTURE_UNSUPPORTED = (
    1,
    2,
    700,
    719,
    900,
)
"""Values of CUresult."""
GIB = 1 << 30


def compiler() -> str | None:
    """Return the C++ compiler, or None."""
    return shutil.which("c++")


def build() -> Path:
    """Compile the library, once for each version of its source, and return its path.

    Raises:
        RuntimeError: it does not compile.
    """
    sources = sorted(FOLDER.glob("*.cpp"))
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in [*sources, FOLDER / "simulator.h"]))
    folder = (
        Path(tempfile.gettempdir())
        / f"srsdk-cuda-simulator-{os.getuid()}-{digest.hexdigest()[:16]}"
    )
    library = folder / NAME
    if library.is_file():
        return library
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"{NAME}.{os.getpid()}"
    call = [
        compiler() or "c++", "-std=c++20", "-O2", "-g", "-fPIC", "-shared", "-pthread", "-Wall",
        "-Wextra", "-Werror", "-fvisibility=hidden", f"-Wl,-soname,{NAME}", "-o", str(made),
        *map(str, sources), "-ldl",
    ]  # fmt: skip
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the CUDA simulator does not compile:\n{done.stderr}")
    made.replace(library)
    return library


def environment() -> dict[str, str]:
    """Return the environment of a process that is to run on the simulator."""
    library = build()
    before = os.environ.get("LD_LIBRARY_PATH")
    paths = [str(library.parent), *([before] if before else [])]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(paths), SETTING: str(library)}


class Simulator:
    """What a test asks of the simulated driver; for a process started with `environment`."""

    def __init__(self) -> None:
        self._library: Any = ctypes.CDLL(os.environ[SETTING])
        for name in ("simLog", "simViolations", "simLeaks", "simMemory"):
            getattr(self._library, name).restype = ctypes.c_char_p
        self._library.simMade.restype = ctypes.c_uint64
        self._library.simContent.restype = ctypes.c_void_p
        self._kept: list[Any] = []

    def reset(
        self, seed: int = 0, *, devices: int = 1, sm: int = 89, total_bytes: int = GIB,
        delay_us: int = 30,
    ) -> None:  # fmt: skip
        """Start anew: seed and settings, no errors on demand, an empty log.

        Contexts that were lost work again, as in a new process.
        """
        from srsdk.engines.cuda import context

        self._library.simReset(
            ctypes.c_uint(seed), devices, sm, ctypes.c_uint64(total_bytes), ctypes.c_uint(delay_us)
        )
        for found in context._contexts.values():
            found.lost = None
        self._kept.clear()

    def fail(self, name: str, count: int = 1, error: int = LAUNCH_FAILED) -> None:
        """Let the `count`-th call of a function from now return an error.

        `kernel` is the execution of one: the error comes later, and the context is lost.
        """
        self._library.simFail(name.encode(), ctypes.c_int64(count), error)

    def forget(self) -> None:
        """Drop what exists, as at the end of a process: for programs that never close."""
        self._library.simForget()

    def made(self, name: str) -> int:
        """Return how often a function was called."""
        return int(self._library.simMade(name.encode()))

    def log(self) -> list[str]:
        """Return the names of the calls since the last time, in order."""
        return self._lines("simLog")

    def violations(self) -> list[str]:
        """Return what no correct program does: access to freed memory, a double release."""
        return self._lines("simViolations")

    def leaks(self) -> list[str]:
        """Return what was made and not released, after all streams have finished."""
        self._lines("simLeaks")
        # kernels keep what they use; all have run now
        self._kept.clear()
        if self._lines("simLeaks"):
            gc.collect()
        return self._lines("simLeaks")

    def memory(self) -> list[tuple[str, int]]:
        """Return kind and size of all memory: device, pool, pinned, write-combined."""
        pairs = (line.split() for line in self._lines("simMemory"))
        return sorted((kind, int(size)) for kind, size in pairs)

    def streams(self) -> int:
        """Return how many streams exist, without the default ones."""
        return int(self._library.simStreams())

    def stage(self, stream: int, source: int, scratch: int, size_bytes: int) -> int:
        """Enqueue a kernel that copies bytes to scratch memory; return the error code."""
        arguments = [ctypes.c_uint64(n) for n in (source, scratch, size_bytes)]
        return int(self._library.simStage(ctypes.c_void_p(stream), *arguments))

    def repeat(
        self, stream: int, source: int, target: int, sides: tuple[int, int, int, int], scale: int,
        *, sums: bool = False,
    ) -> int:  # fmt: skip
        """Enqueue a kernel that repeats pixels of (outer, height, width, inner bytes).

        With `sums`, each byte is first added to those to the right and below; outside are zeros.
        """
        arguments = [ctypes.c_uint64(n) for n in (source, target, *sides, scale)]
        return int(self._library.simRepeat(ctypes.c_void_p(stream), *arguments, int(sums)))

    def kernel(self, stream: int, function: Any) -> int:
        """Enqueue a function that may touch device memory through `content`."""
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        call = kind(lambda _: function())
        self._kept.append(call)
        return int(self._library.simKernel(ctypes.c_void_p(stream), call, None))

    def content(self, address: int, size_bytes: int) -> npt.NDArray[np.uint8]:
        """View the bytes of device memory, for kernels and for looking at results.

        Raises:
            AssertionError: it is not allocated.
        """
        found = self._library.simContent(ctypes.c_uint64(address), ctypes.c_size_t(size_bytes))
        assert found, f"{size_bytes} bytes at {address:#x} are not allocated"
        return np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(found))

    def _lines(self, name: str) -> list[str]:
        return str(getattr(self._library, name)().decode()).splitlines()
