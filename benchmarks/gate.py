"""`python -m benchmarks gate`: does `compare` catch what it shall, and keep silent otherwise?"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import environments, machine, records
from benchmarks.compare import Plan, judge, sentence, to_record

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
    parser.add_argument("--repeats", type=int, default=10, help="comparisons of no change")
    parser.add_argument("--rounds", type=int, default=3, help="couples of processes")
    parser.add_argument("--runs", type=int, default=12, help="pairs of runs in each")
    parser.add_argument("--tolerance", type=float, default=0.1)
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="append the results here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare this checkout with a slowed copy of itself, then with itself; 1 if the gate errs."""
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
            verdict = judge(base, head, drawn)
            errors += verdict.slower != expected
            sys.stdout.write(f"{name}: {sentence(verdict, drawn)}\n")
            sys.stdout.flush()
            if arguments.out:
                record = to_record(verdict, base, head, drawn, before)
                record["config"]["case"] = name
                records.append(arguments.out, record)
    sys.stdout.write(f"{errors} of {len(cases)} verdicts wrong\n")
    return 1 if errors else 0


def slow_down(environment: environments.Environment) -> None:
    """Make every call of an installed version take longer by `SLOW_DOWN`."""
    with (environment.package / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(SLOWED)
