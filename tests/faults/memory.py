"""Make each memory allocation fail once: `python -m tests.faults.memory`.

CPython's test hook makes Python's own allocations fail, not numpy's arrays. The picture goes
through the fake engine without Pillow, whose C code does not survive this. After each failure the
same Upscaler must give the same result for the same picture.
"""

from __future__ import annotations

import _testcapi
import argparse
import json
import sys
from collections import Counter
from unittest import mock

import numpy as np

import srsdk
from tests.conftest import Picture
from tests.fakes.engine import FakeEngine, fake_manifest

QUIET = 60
"""Calls in a row without a failure after which every allocation of a call has been tested."""


def main() -> int:
    """Count the outcomes of all calls; fail if a call left a lost slot or a wrong result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=int, default=1, help="test one allocation in N (default: 1)")
    step = parser.parse_args().step
    engine = FakeEngine()
    with (
        mock.patch("srsdk.opening.open_engine", return_value=engine),
        mock.patch("srsdk.opening.choose_backend", return_value="fake"),
        mock.patch("srsdk.opening.read_manifest", return_value=fake_manifest()),
    ):
        up = srsdk.Upscaler("gan_x4", tile=16, slots=2, health=False)
    picture = np.arange(30 * 30 * 3, dtype=np.uint8).reshape(30, 30, 3)
    expected = up(picture)
    seen: Counter[str] = Counter()
    number = quiet = 0
    while quiet < QUIET:
        failure = failing(up, picture, number)
        seen[failure or "none"] += 1
        quiet = 0 if failure else quiet + 1
        # a deadline, so that a lost slot is an error here and not a hang
        assert np.array_equal(up(picture, timeout=60), expected), number
        number += step
    assert len(engine.slots) == 2, "a slot was lost"
    sys.stdout.write(json.dumps({"tried": sum(seen.values()) - QUIET, **seen}) + "\n")
    return 0


def failing(up: srsdk.Upscaler, picture: Picture, number: int) -> str:
    """Return the error type when allocation `number` fails; empty: the call succeeded."""
    failure = ""
    _testcapi.set_nomemory(number, number + 1)
    try:
        up(picture)
    except Exception as error:
        failure = type(error).__name__
    finally:
        _testcapi.remove_mem_hooks()
    return failure


if __name__ == "__main__":
    sys.exit(main())
