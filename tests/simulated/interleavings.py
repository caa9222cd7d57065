"""Run random interleavings of streams on the simulated GPU and compare every byte.

    python -m tests.simulators.cuda -m tests.simulated.interleavings --seeds 1000

Each seed gives the streams another pace, and draws sizes, slots, compute streams, batch, who gives
the pictures and who reads the results. Any wrong byte, leak or use of freed memory is a failure.
Exit code 1 if there is one; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import srsdk
from srsdk.engines.cuda.device import Device
from tests.conftest import Picture, make_picture
from tests.simulated.fixtures import (
    OnGpu,
    OnGpuByDlpack,
    library_violations,
    open_upscaler,
    read,
    write_engine,
)
from tests.simulators.cuda import Simulator

SOURCES = (OnGpu, OnGpuByDlpack)
TILE = (32, 48)


class WrongError(AssertionError):
    """A result that is not the right picture, a leak, or an access to freed memory."""


def sums(picture: Picture) -> Picture:
    """Return what the stand-in network computes: the oracle.

    A picture is mirrored up to the engine's size. Then each byte is added to those to the right
    and below, outside of which are zeros, and repeated.
    """
    height, width, _ = picture.shape
    more = [(0, max(0, TILE[0] - height)), (0, max(0, TILE[1] - width)), (0, 0)]
    large = np.pad(picture, more, mode="reflect")
    zeros = np.pad(large, [(0, 1), (0, 1), (0, 0)])
    added = (large + zeros[:-1, 1:] + zeros[1:, :-1])[:height, :width]
    result: Picture = added.repeat(2, axis=0).repeat(2, axis=1)
    return result


def run_seed(gpu: Simulator, folder: Path, seed: int) -> int:
    """Run one seed and return how many pictures were compared.

    Raises:
        WrongError: see there.
        SrsdkError: a call failed, which none should.
    """
    draw = random.Random(seed)
    gpu.reset(seed, delay_us=draw.choice((5, 20, 60)))
    path = folder / "x.engine"
    write_engine(path, (draw.choice((1, 1, 2)), *TILE), kind="sums")
    options: dict[str, Any] = {
        "slots": draw.randint(1, 4), "compute_streams": draw.randint(1, 2),
        "graphs": draw.random() < 0.7, "health": False,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("SRSDK_CACHE", "")
        up = stack.enter_context(open_upscaler(patch, path, gpu, **options))
        jobs = [_host, _host, _device, _chained, _into, _overwritten]
        draw.shuffle(jobs)
        count = sum(job(gpu, up, draw) for job in jobs[:3])
        if draw.random() < 0.2:
            count += _threads(up, draw)
        if draw.random() < 0.3:
            count += _closed_early(gpu, up, draw)
    if draw.random() < 0.2:
        count += _black(gpu, path, draw)
    wrong = gpu.leaks() + gpu.violations() + library_violations()
    if wrong:
        raise WrongError("; ".join(wrong[:3]))
    return count


def _picture(draw: random.Random) -> Picture:
    return make_picture(draw.randint(1, 90), draw.randint(1, 120), draw.randrange(1000))


def _compare(result: Any, expected: Picture, what: str) -> int:
    if not np.array_equal(result, expected):
        count = int((np.asarray(result) != expected).sum())
        raise WrongError(f"{what}: {count} of {expected.size} bytes are wrong")
    return 1


def _host(gpu: Simulator, up: Any, draw: random.Random) -> int:
    """Numpy to numpy, twice: a slot's buffers are used again."""
    pictures = [_picture(draw) for _ in range(2)]
    return sum(_compare(up(one), sums(one), "numpy") for one in pictures)


def _threads(up: Any, draw: random.Random) -> int:
    """Four threads share the slots."""
    pictures = [_picture(draw) for _ in range(4)]
    results: list[Any] = [None] * 4

    def run(index: int) -> None:
        results[index] = up(pictures[index])

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pairs = zip(results, pictures, strict=True)
    return sum(_compare(result, sums(one), "threads") for result, one in pairs)


class _Streams:
    """Streams of the application for one job: side streams, or the default one."""

    def __init__(self, draw: random.Random) -> None:
        self.device = Device(0)
        with self.device.active():
            self._owned = [self.device.stream() for _ in range(3)]
        self.handles = [draw.choice([1, one.handle, one.handle]) for one in self._owned]

    def close(self) -> None:
        """Destroy them; their work goes on."""
        with self.device.active():
            for one in self._owned:
                one.close()


def _device(gpu: Simulator, up: Any, draw: random.Random) -> int:
    """A late source; the result is read on another stream through DLPack and freed at once."""
    streams, picture = _Streams(draw), _picture(draw)
    theirs, mine, readers = streams.handles
    source = draw.choice(SOURCES)(gpu, picture, stream=theirs)
    made = up(source, stream=mine)
    line = made.shape[1] * made.shape[2]
    seen = OnGpu(gpu, np.zeros(made.shape, np.uint8), stream=readers)
    with streams.device.active():
        capsule = made.__dlpack__(stream=readers)
        streams.device.copy_rows(
            (seen.address, line), (made.address, line), line, made.shape[0], readers
        )
    del capsule
    made.close()
    # whoever gets its memory next must not write before the reader has read
    other = up(source, stream=mine)
    count = _compare(seen.read(readers), sums(picture), "read on another stream")
    count += _compare(read(gpu, other, mine), sums(picture), "the next array")
    other.close()
    for one in (source, seen, streams):
        one.close()
    return count


def _chained(gpu: Simulator, up: Any, draw: random.Random) -> int:
    """A result is the source of the next call, on another stream."""
    streams, picture = _Streams(draw), _picture(draw)[:40, :40]
    first, second, _ = streams.handles
    source = OnGpu(gpu, picture, stream=first)
    small = up(source)
    large = up(small, stream=second)
    small.close()
    count = _compare(read(gpu, large, second), sums(sums(picture)), "chained")
    large.close()
    for one in (source, streams):
        one.close()
    return count


def _into(gpu: Simulator, up: Any, draw: random.Random) -> int:
    """Into a buffer whose earlier content is still being read on its own stream."""
    streams, pictures = _Streams(draw), [_picture(draw)]
    theirs, mine, _ = streams.handles
    picture = pictures[0]
    target = draw.choice(SOURCES)(gpu, np.zeros_like(sums(picture)), stream=theirs)
    source = draw.choice(SOURCES)(gpu, picture, stream=theirs)
    up(source, out=target, stream=mine)
    count = _compare(read(gpu, target, mine), sums(picture), "out")
    for one in (source, target, streams):
        one.close()
    return count


def _overwritten(gpu: Simulator, up: Any, draw: random.Random) -> int:
    """The source is overwritten on the caller's stream right after the call returns."""
    streams, picture = _Streams(draw), _picture(draw)
    mine = streams.handles[0]
    source = OnGpu(gpu, picture, stream=mine)
    made = up(source, stream=mine)
    with streams.device.active():
        streams.device.clear(source.address, picture.size, mine)
    count = _compare(read(gpu, made, mine), sums(picture), "an overwritten source")
    made.close()
    for one in (source, streams):
        one.close()
    return count


def _closed_early(gpu: Simulator, up: Any, draw: random.Random) -> int:
    """The Upscaler is closed while the GPU still works on a picture."""
    streams, picture = _Streams(draw), _picture(draw)
    source = OnGpu(gpu, picture, stream=streams.handles[0])
    made = up(source)
    up.close()
    count = _compare(read(gpu, made, streams.handles[0]), sums(picture), "closed early")
    made.close()
    for one in (source, streams):
        one.close()
    return count


def _black(gpu: Simulator, path: Path, draw: random.Random) -> int:
    """A network that gives zeros is noticed by the output check, which sees the late result."""
    write_engine(path, (1, *TILE), kind="black")
    streams, picture = _Streams(draw), _picture(draw)
    source = OnGpu(gpu, picture | np.uint8(64), stream=streams.handles[0])
    with pytest.MonkeyPatch.context() as patch, open_upscaler(patch, path, gpu) as up:
        try:
            up(source)
        except srsdk.HealthError as error:
            if "zero" not in str(error):
                raise WrongError(f"the output check saw another picture: {error}") from error
        else:
            raise WrongError("the output check saw nothing")
    for one in (source, streams):
        one.close()
    return 1


def main() -> int:
    """Run the seeds that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first one (default: 0)")
    arguments = parser.parse_args()
    gpu, began_s, count = Simulator(), time.monotonic(), 0
    found: dict[str, Any] = {"first": arguments.first, "seeds": arguments.seeds}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            try:
                count += run_seed(gpu, Path(folder), seed)
            except Exception as error:  # which seed it was is what one needs to know
                found |= {"seed": seed, "error": f"{type(error).__name__}: {error}"}
                break
    found |= {"pictures": count, "seconds": round(time.monotonic() - began_s, 1)}
    sys.stdout.write(json.dumps(found) + "\n")
    return 1 if "error" in found else 0


if __name__ == "__main__":
    sys.exit(main())
