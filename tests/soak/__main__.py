"""Soak test with many threads, mixed sizes, random cancels and deadlines: `python -m tests.soak`.

Every result must equal that of the same picture upscaled alone. Memory must not grow in the second
half; in the first, the backend's caches of compiled shapes fill. Exit code 1: a result differs, a
call does not end or memory grows. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from pathlib import Path

import srsdk
from tests.conftest import Picture, make_picture

SIZES = [(24, 32), (67, 101), (120, 90), (17, 300), (1, 1), (260, 200), (96, 96), (33, 34)]
MAX_GROWTH_MIB = 32
"""How much memory may grow in the second half."""
END_S = 120
"""How long threads may take to end after the last picture."""


class Soak:
    """State shared by all threads.

    Args:
        up: the Upscaler that all threads use.
        seed: random seed of sizes, cancels and deadlines.
    """

    def __init__(self, up: srsdk.Upscaler, seed: int) -> None:
        self._up, self._seed = up, seed
        self._pictures = [make_picture(*size, seed=seed) for size in SIZES]
        self._expected = [_digest(up(picture)) for picture in self._pictures]
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def work(self, number: int, until_s: float) -> None:
        """Upscale random pictures until the time is over."""
        choice = random.Random(self._seed * 1000 + number)
        while time.monotonic() < until_s:
            index = choice.randrange(len(SIZES))
            try:
                outcome = self._upscale_one(index, choice)
            except Exception as error:  # report any error and keep the thread running
                outcome = "failed"
                self.problems.append(f"{SIZES[index]}: {error!r}")
            with self._lock:
                self.counts[outcome] += 1

    def _upscale_one(self, index: int, choice: random.Random) -> str:
        picture = self._pictures[index]
        kind = choice.random()
        try:
            if kind < 0.6:
                result = self._up(picture)
            elif kind < 0.8:
                result = self._up(picture, timeout=choice.uniform(0.001, 0.2))
            else:
                future = self._up.submit(picture)
                time.sleep(choice.uniform(0, 0.05))
                if kind < 0.95:
                    future.cancel()
                result = future.result(END_S)
        except srsdk.DeadlineExceeded:
            return "late"
        except CancelledError:
            return "cancelled"
        if _digest(result) != self._expected[index]:
            self.problems.append(f"{SIZES[index]}: a different result")
        return "equal"


def main() -> int:
    """Run the soak test and print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--model", default="gan_x2")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60
    with srsdk.Upscaler(arguments.model, backend=arguments.backend, tile=128) as up:
        soak = Soak(up, arguments.seed)
        began_s = time.monotonic()
        threads = [
            threading.Thread(target=soak.work, args=(number, began_s + seconds), daemon=True)
            for number in range(arguments.threads)
        ]
        for thread in threads:
            thread.start()
        resident = _watch(began_s, seconds)
        for thread in threads:
            thread.join(max(0.0, began_s + seconds + END_S - time.monotonic()))
        stuck = sum(thread.is_alive() for thread in threads)
    warm = resident[len(resident) // 2 :]
    growth_mib = (max(warm) - warm[0]) / 2**20
    report = {
        "backend": up.backend,
        "seconds": round(time.monotonic() - began_s),
        "threads": arguments.threads,
        **soak.counts,
        "stuck": stuck,
        "resident_mib": [
            round(value / 2**20) for value in resident[:: max(1, len(resident) // 10)]
        ],
        "growth_mib": round(growth_mib, 1),
        "problems": soak.problems[:20],
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if soak.problems or stuck or growth_mib > MAX_GROWTH_MIB else 0


def _watch(began_s: float, seconds: float) -> list[int]:
    """Return the resident memory in bytes at a hundred moments."""
    found = []
    for moment in range(100):
        time.sleep(max(0.0, began_s + seconds * (moment + 1) / 100 - time.monotonic()))
        found.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    return found


def _digest(picture: Picture) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
