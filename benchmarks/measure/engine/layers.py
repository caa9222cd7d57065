"""`python -m benchmarks layers`: where the time of a network goes, by layer, beside its floor.

The floor is the time that the network's operations take at the peak that the machine reaches
(`ceilings`), measured in the same process.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import srsdk
from benchmarks import machine, records
from benchmarks.measure import ceilings, worker
from benchmarks.workloads import WORKLOADS

MODELS = ("gan_x2", "gan_x4", "gan_x4_quality")
PRECISIONS = ("fp32", "bf16", "int8")
EXIT_MISSING = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `layers`."""
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"names or files (default: {' '.join(MODELS)})"
    )
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=PRECISIONS,
        default=list(PRECISIONS),
        help="default: all; int8 is the file MODEL.int8",
    )
    known = [name for name, workload in WORKLOADS.items() if workload.kind == "pictures"]
    parser.add_argument("--workload", choices=known, default="360p", help="default: 360p")
    parser.add_argument("--threads", type=int, help="threads of OpenVINO (default: all cores)")
    parser.add_argument("--runs", type=int, default=30, help="runs of each (default: 30)")
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="append the results here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure each model in each precision, each in its own process.

    Raises:
        ModelError: no such model.
    """
    facts, lacks = machine.describe(), 0
    for model in arguments.models or MODELS:
        for precision in arguments.precisions:
            record = _record(arguments, model, precision, facts)
            lacks += records.missing(record) is not None
            sys.stdout.write(text(record) + "\n")
            sys.stdout.flush()
            if arguments.out:
                records.append(arguments.out, record)
    return EXIT_MISSING if lacks and arguments.models else 0


def by_type(result: dict[str, Any]) -> dict[str, float]:
    """Return the milliseconds by type of layer, longest first; `rest` is between the layers."""
    total: dict[str, float] = defaultdict(float)
    for layer in result["layers"]:
        total[layer["type"]] += layer["ms"]
    total["rest"] = max(0.0, result["ms"] - sum(total.values()))
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def text(record: records.Record) -> str:
    """Format a record as readable lines."""
    config, result = record["config"], record["result"]
    name = f"{config['model']} {config['precision']} {config['workload']}"
    lack = records.missing(record)
    if lack is not None:
        return f"{name}: {records.not_here(lack)}"
    head = (
        f"{name}: {result['ms']:.1f} ms, floor {result['floor_ms']:.1f} ms "
        f"({result['flop'] / 1e9:.1f} G operations at {result['peak_flop_per_s'] / 1e9:.0f} G/s), "
        f"{100 * result['share']:.0f} % of the peak"
    )
    return "\n".join([head, *(f"  {ms:7.2f} ms  {kind}" for kind, ms in by_type(result).items())])


def _record(
    arguments: argparse.Namespace, model: str, precision: str, facts: dict[str, Any]
) -> records.Record:
    name = f"{model}.int8" if precision == "int8" and not Path(model).is_file() else model
    path = srsdk.models.find(name)
    config = {
        "model": path.name.removesuffix(".onnx"),
        "precision": precision,
        "workload": arguments.workload,
        "threads": arguments.threads or machine.usable_cores(),
        "options": {"precision": precision, "instruction_set": ceilings.instruction_set()},
        "runs": arguments.runs,
    }
    before = machine.moment()
    try:
        result = _with_floor(worker.call("layers", {**config, "path": str(path)}))
    except worker.WorkerError as error:
        result = {"missing": str(error)}
    config["model_sha256"] = machine.file_sha256(path)
    after = machine.moment()
    return records.make("layers", config, result, facts, before, after, machine.command_line())


def _with_floor(result: dict[str, Any]) -> dict[str, Any]:
    """Add the operations, the milliseconds that they take at the peak, and the share of it."""
    flop = sum(layer["flop"] for layer in result["layers"])
    floor_ms = 1000 * flop / result["peak_flop_per_s"]
    return {**result, "flop": flop, "floor_ms": floor_ms, "share": floor_ms / result["ms"]}
