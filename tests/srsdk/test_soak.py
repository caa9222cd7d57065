"""Soak test: memory stays flat over many pictures, and every kind of load at once is correct."""

from __future__ import annotations

import argparse
import gc
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import srsdk
from srsdk.engines.backends import BACKENDS
from srsdk.options import Backend
from tests.conftest import Picture, make_picture
from tests.soak.__main__ import growth, is_bad, run
from tests.soak.watch import Held

PICTURES, WARM_UP = 10_000, 2_000
KINDS = 13
"""Kinds of load in `tests.soak`."""
SIDES = [(24, 32), (32, 24), (40, 40), (17, 51)]


def resident_bytes() -> int:
    """Return the resident memory of the process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def four_sizes(count: int) -> Iterator[Picture]:
    """Yield small pictures of four sizes in turn."""
    pictures = [make_picture(*side) for side in SIDES]
    for index in range(count):
        yield pictures[index % len(pictures)]


def mixed(count: int) -> Iterator[Picture]:
    """Yield the same pictures, but every fiftieth with a random size."""
    choice = random.Random(0)
    for index, picture in enumerate(four_sizes(count)):
        if index % 50:
            yield picture
        else:
            yield make_picture(choice.randrange(8, 60), choice.randrange(8, 60))


CALLS: dict[str, Callable[[srsdk.Upscaler, Picture, Path], object]] = {
    "array": lambda up, picture, _: up(picture),
    "tiles": lambda up, _, __: up(make_picture(200, 210)),
    "image": lambda up, picture, _: up(Image.fromarray(picture)),
    "deadline": lambda up, picture, _: up(picture, timeout=60),
    "future": lambda up, picture, _: up.submit(picture).result(),
    "stream": lambda up, picture, _: list(up.stream([picture] * 3)),
    "batch": lambda up, picture, _: up.batch([picture] * 3),
    "file": lambda up, _, folder: up.upscale_file(
        Path(__file__).parents[2] / "samples" / "astronaut.png", folder / "out.png", overwrite=True
    ),
    "sixteen bits": lambda up, picture, _: up(picture.astype(np.uint16)),
}


@pytest.mark.parametrize("kind", CALLS)
def test_results_do_not_wait_for_the_garbage_collector(kind: str, tmp_path: Path) -> None:
    """No call leaves a reference cycle, which would keep pictures alive until a collection."""
    picture = make_picture(40, 30)
    with srsdk.Upscaler("gan_x2", tile=90) as up:
        CALLS[kind](up, picture, tmp_path)
        gc.collect()
        gc.disable()
        try:
            result = CALLS[kind](up, picture, tmp_path)
            gc.set_debug(gc.DEBUG_SAVEALL)
            del result
            gc.collect()
            left = [one for one in gc.garbage if holds_pictures(one)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert left == []


def holds_pictures(one: object) -> bool:
    """Return whether an object is from srsdk or is an array."""
    return type(one).__module__.startswith("srsdk") or isinstance(one, np.ndarray)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    # with new sizes the cache of compiled kernels in OpenVINO's oneDNN fills, up to its bound
    ("source", "most_mib"),
    [(four_sizes, 8), (mixed, 100)],
)
def test_memory_stays_flat(
    backend: Backend, source: Callable[[int], Iterator[Picture]], most_mib: int
) -> None:
    """Ten thousand pictures take no more memory than two thousand."""
    with srsdk.Upscaler("gan_x2", backend=backend) as up:
        for done, _ in enumerate(up.stream(source(PICTURES)), 1):
            if done == WARM_UP:
                before = resident_bytes()
        growth = resident_bytes() - before
    assert done == PICTURES
    assert growth < most_mib << 20, f"{growth / 2**20:.1f} MiB more"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_every_kind_of_load_at_once() -> None:
    """Results are those without load; nothing is stuck, open or left; see `tests.soak`."""
    arguments = {"minutes": 0.05, "threads": 4, "seed": 3, "moments": 4, "model": "gan_x2"}
    backends = {"backend": "auto", "other_backend": "onnxruntime"}
    report = run(argparse.Namespace(**arguments, **backends))
    assert report["problems"] == []
    assert report["left"] == []
    assert report["stuck"] == 0
    assert report["more_descriptors"] == 0, report["descriptors"]
    assert len({each.partition(":")[0] for each in report["outcomes"]}) == KINDS


@pytest.mark.parametrize(
    ("last", "is_growing"),
    [
        (Held(200 << 20, 5, 40), False),
        (Held(200 << 20, 6, 40), True),
        (Held(200 << 20, 5, 60), True),
        (Held(250 << 20, 5, 40), True),
    ],
)
def test_what_grows_in_the_second_half_fails_the_soak(last: Held, is_growing: bool) -> None:
    """One more descriptor, many more threads or more than 32 MiB are too much."""
    warm = Held(200 << 20, 5, 40)
    moments = [Held(100 << 20, 3, 9), warm, warm, warm, warm, last]
    report = {"problems": [], "left": [], "stuck": 0, **growth(moments)}
    assert is_bad(report) == is_growing
