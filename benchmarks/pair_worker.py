"""One of two versions of srsdk that are compared: waits for its turn, runs once, says how long.

A script and not a module: it is started with `-I`, by its path, in the environment of the version
that is measured, and sees nothing of the checkout but itself.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np

import srsdk

WARM_UP_RUNS = 3


def main() -> None:
    """`JSON`: model, height, width, options. Then each line on stdin is one run."""
    config: dict[str, Any] = json.loads(sys.argv[1])
    random = np.random.default_rng(0)
    size = (config["height"], config["width"], 3)
    picture = random.integers(0, 256, size, dtype=np.uint8)
    with srsdk.Upscaler(config["model"], **config["options"]) as up:
        for _ in range(WARM_UP_RUNS):
            up(picture)
        _say({"srsdk": srsdk.__file__, "repr": repr(up)})
        for _ in sys.stdin:
            began = time.perf_counter()
            up(picture)
            _say({"ms": 1000 * (time.perf_counter() - began)})


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
