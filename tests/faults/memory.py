"""`python -m tests.faults.memory`: one allocation after the other fails, once each.

CPython's own test hook makes them fail (objects of Python; arrays are numpy's). The picture goes
through the fake engine without Pillow, whose C code does not survive this. After each failure the
same Upscaler must upscale the same picture to the same result.
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
from tests.fakes import FakeEngine, fake_manifest

QUIET = 60
"""So many calls in a row without a failure: the allocation that is to fail is behind their end."""


def main() -> int:
    """Count what became of the calls; exit code 1 where one left something behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=int, default=1, help="leave out all but one in so many (1)")
    step = parser.parse_args().step
    engine = FakeEngine()
    with (
        mock.patch("srsdk.upscaler.open_engine", return_value=engine),
        mock.patch("srsdk.upscaler.choose_backend", return_value="fake"),
        mock.patch("srsdk.upscaler.read_manifest", return_value=fake_manifest()),
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
    assert len(engine.slots) == 2, "a slot was lost on the way"
    sys.stdout.write(json.dumps({"tried": sum(seen.values()) - QUIET, **seen}) + "\n")
    return 0


def failing(up: srsdk.Upscaler, picture: Picture, number: int) -> str:
    """Return the kind of error when allocation `number` fails; empty: the call did not notice."""
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
