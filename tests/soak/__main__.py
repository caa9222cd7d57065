"""Soak test with every kind of load at once: `python -m tests.soak --minutes 60`.

Many threads share one Upscaler and one small Budget: arrays of mixed sizes, deadlines,
cancellations, asyncio tasks, streams, batches, files of several formats in and out, animations,
damaged files, progress callbacks that raise, an Upscaler with another backend that is opened and
closed, and child processes that are killed while they write to the same folder.

Every outcome must equal that without load. From time to time all threads rest; what the process
then holds must not grow in the second half: memory, open files, threads. In the first, the
backend's caches of compiled shapes fill. Exit code 1: an outcome differs, a call does not end,
something grows, or a temporary file is left. Linux only.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import srsdk
from tests.soak import material
from tests.soak.children import Children
from tests.soak.load import Load
from tests.soak.watch import Gate, Held, held

MAX_GROWTH_MIB = 32
"""How much memory may grow in the second half."""
MAX_MORE_THREADS = 8
"""How many more than in the first half: libvips keeps idle threads for some seconds."""
END_S = 120
"""How long threads may take to end after the last picture."""
CHILD_S = 10
"""Longest life of a child, and longest time between two."""


class Soak:
    """One run.

    Args:
        load: what the threads do.
        children: what one more thread does.
        output: the folder for results.
        arguments: of the command line.
    """

    def __init__(
        self, load: Load, children: Children, output: Path, arguments: argparse.Namespace
    ) -> None:
        self._load, self._children, self._output = load, children, output
        self._arguments = arguments
        self._gate = Gate()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self.stuck = 0

    def run(self) -> list[Held]:
        """Do all of it, and return what the process held at each moment."""
        began_s, seconds = time.monotonic(), self._arguments.minutes * 60
        threads = [
            threading.Thread(target=target, args=(number, began_s + seconds), daemon=True)
            for number, target in enumerate(
                [*[self._work] * self._arguments.threads, self._run_children]
            )
        ]
        for thread in threads:
            thread.start()
        found = []
        moments = self._arguments.moments
        for moment in range(moments):
            time.sleep(max(0.0, began_s + seconds * (moment + 1) / moments - time.monotonic()))
            with self._gate.rest() as at_rest:
                if not at_rest:
                    self._load.problems.append("some threads do not end what they have begun")
                    break
                found.append(held())
        for thread in threads:
            thread.join(max(0.0, began_s + seconds + END_S - time.monotonic()))
        self.stuck = sum(thread.is_alive() for thread in threads)
        return found

    def _work(self, number: int, until_s: float) -> None:
        choice = random.Random(self._arguments.seed * 1000 + number)
        # each kind at least once, on slow machines too
        first = list(self._load.kinds)[number :: self._arguments.threads]
        while first or time.monotonic() < until_s:
            kind = first.pop() if first else self._load.any_kind(choice)
            with self._gate.working():
                outcome = self._load.one(kind, choice)
            with self._lock:
                self._counts[f"{kind}: {outcome}"] += 1

    def _run_children(self, number: int, until_s: float) -> None:
        choice = random.Random(self._arguments.seed * 1000 + number)
        longest_s = min(CHILD_S, self._arguments.minutes * 20)
        while time.monotonic() < until_s:
            with self._gate.working():
                self._load.problems.extend(self._children.run(choice, longest_s))
            time.sleep(choice.uniform(0, longest_s))

    def report(self) -> dict[str, Any]:
        """Return counts and problems, and what is left in the output folder."""
        names = sorted(path.name for path in self._output.iterdir())
        hidden = [name for name in names if name.startswith(".")]
        left = [name for name in names if name not in self._children.expected]
        # one picture per job of a child that was killed
        allowed = self._children.killed * 2
        return {
            "outcomes": dict(sorted(self._counts.items())),
            "children": {"killed": self._children.killed, "finished": self._children.finished},
            "stuck": self.stuck,
            "left": [name for name in left if name not in hidden[:allowed]],
            "problems": self._load.problems[:20],
        }


def main() -> int:
    """Run the soak test and print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--model", default="gan_x2")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--other-backend", default="onnxruntime")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--moments", type=int, default=100, help="how often all threads rest")
    report = run(parser.parse_args())
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if is_bad(report) else 0


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the soak test and return its report."""
    began_s = time.monotonic()
    budget = srsdk.Budget(memory_bytes=material.MEMORY_BYTES)
    model, other = arguments.model, arguments.other_backend
    with (
        tempfile.TemporaryDirectory(prefix="srsdk-soak-") as name,
        srsdk.Upscaler(model, backend=arguments.backend, tile=128, budget=budget) as up,
    ):
        folder, output = Path(name), Path(name) / "out"
        output.mkdir()
        made = material.make(folder, up, arguments.seed)
        children = Children(folder / "child", output, up, model)
        load = Load(
            up, made, output, lambda: srsdk.Upscaler(model, backend=other, tile=128, budget=budget)
        )
        soak = Soak(load, children, output, arguments)
        moments = soak.run()
        report = soak.report()
        if budget.reserved_bytes:
            report["problems"].append(f"{budget.reserved_bytes} bytes stay reserved")
    facts = {"backend": up.backend, "seed": arguments.seed, "threads": arguments.threads}
    return {**facts, "seconds": round(time.monotonic() - began_s), **report, **growth(moments)}


def growth(moments: list[Held]) -> dict[str, Any]:
    """Return what was held at rest, and how much more than before in the second half."""
    half = len(moments) // 2
    cold, warm = moments[:half], moments[half:]
    shown = moments[:: max(1, len(moments) // 10)]
    peak = max(moment.resident_bytes for moment in warm)
    return {
        "resident_mib": [round(moment.resident_bytes / 2**20) for moment in shown],
        "descriptors": [moment.descriptors for moment in shown],
        "held_threads": [moment.threads for moment in shown],
        "growth_mib": round((peak - warm[0].resident_bytes) / 2**20, 1),
        "more_descriptors": max(m.descriptors for m in warm) - max(m.descriptors for m in cold),
        "more_threads": max(m.threads for m in warm) - max(m.threads for m in cold),
    }


def is_bad(report: dict[str, Any]) -> bool:
    """Return whether a report says that something went wrong."""
    grew = report["growth_mib"] > MAX_GROWTH_MIB
    grew |= report["more_descriptors"] > 0 or report["more_threads"] > MAX_MORE_THREADS
    return bool(report["problems"] or report["left"] or report["stuck"] or grew)


if __name__ == "__main__":
    sys.exit(main())
