"""Time one of two compared versions of srsdk: one run for each line on stdin.

A script, not a module: it is started with `-I`, by its path, in the environment of the measured
version, and sees nothing else of the checkout.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

import srsdk
from srsdk import models

WARM_UP_RUNS = 20
"""Enough for a size to reach its fastest form (`srsdk.engines.compiled.forms`), from 180p on."""


def main() -> None:
    """Take model, height, width and options as JSON; then run once for each line on stdin."""
    config: dict[str, Any] = json.loads(sys.argv[1])
    random = np.random.default_rng(0)
    size = (config["height"], config["width"], 3)
    picture = random.integers(0, 256, size, dtype=np.uint8)
    # each version its own file of a name; the name alone does not mean the same in every version
    with srsdk.Upscaler(models.find(config["model"]), **config["options"]) as up:
        for _ in range(WARM_UP_RUNS):
            up(picture)
        _write({"srsdk": srsdk.__file__, "repr": repr(up)})
        for _ in sys.stdin:
            began = time.perf_counter()
            up(picture)
            _write({"ms": 1000 * (time.perf_counter() - began)})


def _write(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
