"""`python -m benchmarks gate`: verify that `compare` finds a slowdown and no false ones."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import machine, records
from benchmarks.compare import environments
from benchmarks.compare.versions import Plan, compare_times, summary_line, to_record

SLOW_DOWN = 0.2
SLOWED = f"""

# added by python -m benchmarks gate
import time as _time

_call = Upscaler.__call__


def _slow(self, *arguments, **keywords):
    began = _time.perf_counter()
    result = _call(self, *arguments, **keywords)
    _time.sleep({SLOW_DOWN} * (_time.perf_counter() - began))
    return result


Upscaler.__call__ = _slow
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gate`."""
    parser.add_argument(
        "--repeats", type=int, default=10, help="comparisons without change (default: 10)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="pairs of processes (default: 3)")
    parser.add_argument("--runs", type=int, default=12, help="timed runs per process (default: 12)")
    parser.add_argument(
        "--tolerance", type=float, default=0.1, help="allowed slowdown (0.1: 10 %%)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="append the results here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare this checkout with a slowed copy, then with itself; exit code 1 on a wrong result."""
    plan = Plan(rounds=arguments.rounds, runs=arguments.runs, tolerance=arguments.tolerance)
    errors = 0
    with tempfile.TemporaryDirectory() as folder:
        base, twin, slowed = (
            environments.make(".", Path(folder) / name) for name in ("base", "twin", "slowed")
        )
        slow_down(slowed)
        cases = [(slowed, f"{SLOW_DOWN:.0%} slower", True)]
        cases += [(twin, "no change", False)] * arguments.repeats
        for number, (head, name, expected) in enumerate(cases):
            before = machine.moment()
            drawn = replace(plan, seed=number)
            comparison = compare_times(base, head, drawn)
            errors += comparison.slower != expected
            sys.stdout.write(f"{name}: {summary_line(comparison, drawn)}\n")
            sys.stdout.flush()
            if arguments.out:
                record = to_record(comparison, base, head, drawn, before)
                record["config"]["case"] = name
                records.append(arguments.out, record)
    sys.stdout.write(f"{errors} of {len(cases)} comparisons wrong\n")
    return 1 if errors else 0


def slow_down(environment: environments.Environment) -> None:
    """Make every call of an installed version take longer by `SLOW_DOWN`."""
    with (environment.package / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(SLOWED)
