"""Cut the power at every point of a run: `python -m tests.powercut all --cuts 1000` (Linux).

Each run is recorded once with strace. For each cut, the disk is what was synced before it, and a
random part of the rest. Nothing that the run had reported as done may be missing or changed, no
damaged file may have a final name, and the same command must end with the undisturbed result.
Exit code 1: something was lost.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.runs import make_runs
from tests.powercut.case import Case, PowerCuts, cases_of
from tests.powercut.strace import why_missing

NAMES = ("folder", "video", "training", "export")


def main() -> int:
    """Test each run and print one JSON line for it."""
    parser = argparse.ArgumentParser(prog="python -m tests.powercut", description=__doc__)
    parser.add_argument("runs", nargs="+", choices=("all", *NAMES), metavar="RUN")
    parser.add_argument("--cuts", type=int, default=1000, help="per run (default: 1000)")
    parser.add_argument(
        "--reruns",
        type=int,
        default=100,
        help="different states per run from which the command is run again (default: 100)",
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if why := why_missing():
        parser.error(why)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="srsdk-powercut-") as folder:
        cases = cases_of(make_runs(Path(folder) / "inputs"))
        names = NAMES if "all" in arguments.runs else arguments.runs
        for name in names:
            failed += _test(name, cases[name], Path(folder) / name, arguments)
    return 1 if failed else 0


def _test(name: str, case: Case, folder: Path, arguments: argparse.Namespace) -> int:
    """Print the line of one run and return the number of problems."""
    began_s = time.monotonic()
    test = PowerCuts(case, folder, random.Random(arguments.seed))
    test.run(arguments.cuts, arguments.reruns)
    line = {"run": name, **test.report(), "seconds": round(time.monotonic() - began_s)}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    return len(test.problems)


if __name__ == "__main__":
    sys.exit(main())
