"""`python -m benchmarks compare`: check whether one version is slower than another.

Two processes, one of each version, take turns; the order within each pair of runs is random.
Several pairs of processes run, because two processes of the same program differ in memory layout.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import srsdk
from benchmarks import machine, records
from benchmarks.compare import environments
from benchmarks.compare.environments import Environment
from benchmarks.measure.statistics import Ratio, paired_ratio
from benchmarks.workloads import WORKLOADS

SCRIPT = Path(__file__).with_name("pair_worker.py")
EXIT_SLOWER = 1


class CompareError(Exception):
    """A version does not run, or the call does not name exactly one base."""


@dataclass(frozen=True)
class Plan:
    """Parameters of a comparison."""

    model: str = "gan_x4"
    """Name or path; for a shipped name, each version opens its own file."""
    workload: str = "180p"
    """Name in `WORKLOADS`; sets the picture size."""
    backend: str = "auto"
    """Backend of the Upscaler."""
    threads: int | None = None
    """Threads of the backend."""
    rounds: int = 5
    """Pairs of processes."""
    runs: int = 20
    """Pairs of runs in each round."""
    tolerance: float = 0.05
    """Allowed slowdown: 0.05 is 5 %."""
    seed: int = 0
    """Random seed of the order."""

    def config(self) -> dict[str, Any]:
        """Return the configuration of a worker."""
        w = WORKLOADS[self.workload]
        options = {"backend": self.backend, "threads": self.threads}
        return {"model": self.model, "height": w.height, "width": w.width, "options": options}


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison."""

    ratio: Ratio
    """Head's time over base's."""
    slower: bool
    """Whether the whole interval exceeds the tolerance, in two independent measurements."""
    head_ms: list[list[float]]
    """Latencies of head by round."""
    base_ms: list[list[float]]
    """Latencies of base by round."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `compare`."""
    parser.add_argument("base", nargs="?", help="git reference, folder of a checkout, or wheel")
    parser.add_argument("head", nargs="?", default=".", help="the same (default: this checkout)")
    parser.add_argument("--against-ref", metavar="GITREF", help="use instead of BASE")
    parser.add_argument("--model", default=Plan.model, help="model name or file (default: gan_x4)")
    parser.add_argument(
        "--workload",
        default=Plan.workload,
        choices=list(WORKLOADS),
        help="picture size (default: 180p)",
    )
    parser.add_argument(
        "--backend", default=Plan.backend, help="backend of the Upscaler (default: auto)"
    )
    parser.add_argument("--threads", type=int, help="threads of the backend (default: all cores)")
    parser.add_argument(
        "--rounds", type=int, default=Plan.rounds, help="pairs of processes (default: 5)"
    )
    parser.add_argument(
        "--runs", type=int, default=Plan.runs, help="timed runs per process (default: 20)"
    )
    parser.add_argument(
        "--tolerance", type=float, default=Plan.tolerance, help="allowed slowdown (0.05: 5 %%)"
    )
    parser.add_argument(
        "--seed", type=int, default=Plan.seed, help="random seed of the order (default: 0)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="append the result here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare two versions; exit code 1 if head is slower by more than the tolerance.

    Raises:
        CompareError: not exactly one base, or a version does not run.
        BuildError: a version cannot be built.
    """
    base_version = arguments.against_ref or arguments.base
    if base_version is None or (arguments.against_ref and arguments.base):
        raise CompareError("expected one base: compare BASE [HEAD], or compare --against-ref REF")
    names = Plan.__dataclass_fields__
    plan = Plan(**{name: getattr(arguments, name) for name in names})
    with tempfile.TemporaryDirectory() as folder:
        base = environments.make(base_version, Path(folder) / "base")
        head = environments.make(arguments.head, Path(folder) / "head")
        before = machine.moment()
        comparison = compare_times(base, head, plan)
        record = to_record(comparison, base, head, plan, before)
    sys.stdout.write(f"{head.version} over {base.version}: {summary_line(comparison, plan)}\n")
    if arguments.out:
        records.append(arguments.out, record)
    return EXIT_SLOWER if comparison.slower else 0


def compare_times(base: Environment, head: Environment, plan: Plan) -> Comparison:
    """Compare run times; a slowdown counts only if a second set of rounds confirms it."""
    base_ms, head_ms = measure(base, head, plan)
    slower = is_slower(paired_ratio(head_ms, base_ms), plan)
    if slower:
        again_base, again_head = measure(base, head, plan)
        slower = is_slower(paired_ratio(again_head, again_base), plan)
        base_ms, head_ms = base_ms + again_base, head_ms + again_head
    return Comparison(paired_ratio(head_ms, base_ms), slower, head_ms, base_ms)


def is_slower(ratio: Ratio, plan: Plan) -> bool:
    """Return whether the whole interval exceeds the tolerance."""
    return ratio.low > 1 + plan.tolerance


def measure(
    base: Environment, head: Environment, plan: Plan
) -> tuple[list[list[float]], list[list[float]]]:
    """Run all rounds; return the latencies of base and of head, by round."""
    order = random.Random(plan.seed)
    rounds = [_round(base, head, plan, order) for _ in range(plan.rounds)]
    return [ms[0] for ms in rounds], [ms[1] for ms in rounds]


def summary_line(comparison: Comparison, plan: Plan) -> str:
    """Format a comparison as one readable line."""
    found = "slower" if comparison.slower else "not slower"
    return (
        f"{plan.model}, {plan.workload}: time ratio {comparison.ratio}, "
        f"{found} by more than {plan.tolerance:.0%}"
    )


def to_record(
    comparison: Comparison, base: Environment, head: Environment, plan: Plan, before: dict[str, Any]
) -> records.Record:
    """Return the record of a comparison."""
    config = {
        "base": {"version": base.version, "code_sha256": base.code_sha256},
        "head": {"version": head.version, "code_sha256": head.code_sha256},
        "model": plan.model,
        "model_sha256": machine.file_sha256(srsdk.models.find(plan.model)),
        **{name: getattr(plan, name) for name in Plan.__dataclass_fields__ if name != "model"},
    }
    result = {
        "ratio": comparison.ratio.to_dict(),
        "slower": comparison.slower,
        "base_ms": comparison.base_ms,
        "head_ms": comparison.head_ms,
    }
    facts, after = machine.describe(), machine.moment()
    return records.make("compare", config, result, facts, before, after, machine.command_line())


def _round(
    base: Environment, head: Environment, plan: Plan, order: random.Random
) -> tuple[list[float], list[float]]:
    with ExitStack() as stack:
        pair = [stack.enter_context(_worker(side, plan)) for side in (base, head)]
        ms: tuple[list[float], list[float]] = ([], [])
        for _ in range(plan.runs):
            first = order.randrange(2)
            for side in (first, 1 - first):
                ms[side].append(_once(pair[side]))
    return ms


@contextmanager
def _worker(side: Environment, plan: Plan) -> Iterator[subprocess.Popen[str]]:
    call = [str(side.python), "-I", str(SCRIPT), json.dumps(plan.config())]
    with subprocess.Popen(
        call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            found = Path(_answer(process)["srsdk"]).parent
            if found.resolve() != side.package.resolve():
                raise CompareError(f"{side.version} runs {found}, expected {side.package}")
            yield process
        finally:
            process.kill()


def _once(process: subprocess.Popen[str]) -> float:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(_answer(process)["ms"])


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    if not line:
        said = process.stderr.read().strip().splitlines()[-1:] or ["no error output"]
        raise CompareError(f"a version does not run: {said[0]}")
    answer: dict[str, Any] = json.loads(line)
    return answer
