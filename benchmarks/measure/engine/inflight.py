"""`python -m benchmarks inflight`: many pictures at once, against the bare engine.

srsdk gets its pictures with `submit`, the bare engine with as many requests; a number of them is
always in flight. OpenVINO chooses its own streams: its hint is LATENCY for one request, THROUGHPUT
for more. srsdk returns each result in an array of its own; the bare engine overwrites its outputs.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import srsdk
from benchmarks import machine, records
from benchmarks.measure import worker
from benchmarks.peers.engine.flights import BARE
from benchmarks.workloads import WORKLOADS

MODELS = ("gan_x4", "gan_x4.int8")
FLIGHTS = (1, 2, 4, 8)
CANDIDATES = ("srsdk latency", "srsdk throughput", BARE)
EXIT_MISSING = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inflight`."""
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"names or files (default: {' '.join(MODELS)})"
    )
    known = [name for name, workload in WORKLOADS.items() if workload.kind == "pictures"]
    parser.add_argument(
        "--workloads", nargs="+", choices=known, default=["360p"], help="default: 360p"
    )
    parser.add_argument(
        "--flights", nargs="+", type=int, default=list(FLIGHTS), help="default: 1 2 4 8"
    )
    parser.add_argument("--threads", type=int, help="threads of OpenVINO (default: all cores)")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each (default: 5)")
    parser.add_argument("--seconds", type=float, default=2, help="of each process (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the order (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="append the results here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure each model, workload and number in flight.

    Raises:
        ModelError: no such model.
    """
    facts, lacks = machine.describe(), 0
    order = random.Random(arguments.seed)
    for model in arguments.models or MODELS:
        for workload in arguments.workloads:
            for flights in arguments.flights:
                record = _record(arguments, model, workload, flights, facts, order)
                lacks += records.missing(record) is not None
                sys.stdout.write(text(record) + "\n")
                sys.stdout.flush()
                if arguments.out:
                    records.append(arguments.out, record)
    return EXIT_MISSING if lacks and arguments.models else 0


def text(record: records.Record) -> str:
    """Format a record as readable lines."""
    config, result = record["config"], record["result"]
    name = f"{config['model']} {config['workload']}, {config['flights']} in flight"
    lack = records.missing(record)
    if lack is not None:
        return f"{name}: {records.not_here(lack)}"
    lines = [
        f"  {candidate:16s} {found['pictures_per_s']:7.2f} pictures/s, "
        f"{found['cpu_ms']:7.1f} ms of CPU each; of the bare engine's: "
        f"rate {found['rate_ratio']:.3f}, CPU {found['cpu_ratio']:.3f}"
        for candidate, found in result["candidates"].items()
    ]
    return "\n".join([f"{name}:", *lines])


def table(found: Sequence[records.Record]) -> str:
    """Return a Markdown table of the newest records, one row per model, size and number."""
    newest: dict[str, records.Record] = {}
    for record in records.measured(found):
        if record["kind"] == "inflight":
            c = record["config"]
            key = f"{c['model']} {c['workload']}, {c['flights']}, {records.machine_of(record)}"
            newest[key] = record
    if not newest:
        return ""
    head = ["model, size, in flight, processor"]
    for name in CANDIDATES:
        head += [f"{name}: pictures/s", "ms of CPU each"]
        head += [] if name == BARE else [f"rate of {BARE}'s"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for key, record in newest.items():
        row = [key]
        for name in CANDIDATES:
            one = record["result"]["candidates"][name]
            row += [f"{one['pictures_per_s']:.2f}", f"{one['cpu_ms']:.1f}"]
            row += [] if name == BARE else [f"{one['rate_ratio']:.3f}"]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def summary(rounds: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return medians of each candidate, and of its ratios to the bare engine round by round."""
    rates = {name: [r["pictures"] / r["seconds"] for r in found] for name, found in rounds.items()}
    cpu_ms = {
        name: [1000 * r["cpu_seconds"] / r["pictures"] for r in found]
        for name, found in rounds.items()
    }

    def ratio(values: dict[str, list[float]], name: str) -> float:
        pairs = zip(values[name], values[BARE], strict=True)
        return median(mine / bare for mine, bare in pairs)

    return {
        name: {
            "pictures_per_s": median(rates[name]),
            "cpu_ms": median(cpu_ms[name]),
            "rate_ratio": ratio(rates, name),
            "cpu_ratio": ratio(cpu_ms, name),
        }
        for name in rounds
    }


def _record(
    arguments: argparse.Namespace, model: str, workload: str, flights: int, facts: dict[str, Any],
    order: random.Random,
) -> records.Record:  # fmt: skip
    path = srsdk.models.find(model)
    config = {
        "model": path.name.removesuffix(".onnx"),
        "workload": workload,
        "flights": flights,
        "threads": arguments.threads or machine.usable_cores(),
        "options": {"flights": flights},
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
    }
    before = machine.moment()
    rounds: dict[str, list[dict[str, float]]] = defaultdict(list)
    try:
        for _ in range(arguments.rounds):
            for candidate in order.sample(CANDIDATES, len(CANDIDATES)):
                job = {**config, "path": str(path), "candidate": candidate}
                rounds[candidate].append(worker.call("inflight", job))
        ordered = {name: rounds[name] for name in CANDIDATES}
        result: dict[str, Any] = {"candidates": summary(ordered), "rounds": ordered}
    except worker.WorkerError as error:
        result = {"missing": str(error)}
    config["model_sha256"] = machine.file_sha256(path)
    after = machine.moment()
    return records.make("inflight", config, result, facts, before, after, machine.command_line())
