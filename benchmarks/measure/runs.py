"""`python -m benchmarks run`: measure scenarios, stages, mixed sizes, startup, video, ceilings."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

import srsdk
from benchmarks import machine, records
from benchmarks.measure import cost, startup, worker
from benchmarks.measure.scenarios import SCENARIOS
from benchmarks.measure.statistics import percentiles
from benchmarks.workloads import WORKLOADS

Job = tuple[str, dict[str, Any]]

MODELS = ("gan_x2", "gan_x4")
EXIT_MISSING = 1
SCALES = {"folder": ("gan_x4",), "video": ("gan_x2", "realtime_x2")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `run`."""
    parser.add_argument("--models", nargs="+", metavar="MODEL", help=f"default: {' '.join(MODELS)}")
    parser.add_argument(
        "--workloads",
        nargs="+",
        default=list(WORKLOADS),
        choices=list(WORKLOADS),
        help="default: all",
    )
    parser.add_argument(
        "--scenarios", nargs="+", default=list(SCENARIOS), choices=SCENARIOS, help="default: all"
    )
    parser.add_argument("--backend", default="auto", help="backend of the Upscaler (default: auto)")
    parser.add_argument(
        "--precision", default="auto", help="auto: that of the file, or bf16 (default: auto)"
    )
    parser.add_argument("--threads", type=int, help="threads of the backend (default: all cores)")
    parser.add_argument(
        "--queries", type=int, default=24, help="most queries per scenario (default: 24)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10,
        help="approximate time limit per scenario (default: 10)",
    )
    parser.add_argument(
        "--frames", type=int, default=300, help="frames of the video (default: 300)"
    )
    parser.add_argument(
        "--qps", type=float, help="Server: queries per second (default: half the capacity)"
    )
    parser.add_argument("--bound-ms", type=float, help="Server: latency bound (default: 3 medians)")
    parser.add_argument("--short", action="store_true", help="quick check: only 180p, few queries")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the order (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="append the results here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the requested measurements in shuffled order, each in its own process.

    What cannot run here becomes a record with the reason; the exit code is then 1 if the call names
    models, a backend or a precision.

    Raises:
        ModelError: no such model.
    """
    named = arguments.models or (arguments.backend, arguments.precision) != ("auto", "auto")
    arguments.models = arguments.models or MODELS
    for model in arguments.models:
        srsdk.models.find(model)
    if arguments.short:
        arguments.workloads, arguments.queries, arguments.frames = ["180p"], 6, 6
    jobs = list(_jobs(arguments))
    random.Random(arguments.seed).shuffle(jobs)
    facts, lacks = machine.describe(), 0
    for task, config in tqdm(jobs, unit="measurement", disable=not sys.stderr.isatty()):
        record = measure(task, config, facts)
        lacks += "model" in config and records.missing(record) is not None
        sys.stdout.write(line(record) + "\n")
        sys.stdout.flush()
        if arguments.out:
            records.append(arguments.out, record)
    return EXIT_MISSING if named and lacks else 0


def measure(task: str, config: dict[str, Any], facts: dict[str, Any]) -> records.Record:
    """Run one job and return its record; if it cannot run here, the record has the reason."""
    before = machine.moment()
    try:
        raw = startup.import_ms(config["times"]) if task == "import" else _call(task, config)
        result = _result(task, config, raw)
    except worker.WorkerError as error:
        result = {"missing": str(error)}
    after = machine.moment()
    if "model" in config:
        path = srsdk.models.find(config["model"])
        config = {**config, "model_sha256": machine.file_sha256(path)}
    kind = "startup" if task == "import" else task
    return records.make(kind, config, result, facts, before, after, machine.command_line())


def _call(task: str, config: dict[str, Any]) -> dict[str, Any]:
    """Run a task with the file of the model: a name would open its INT8 file on a CPU."""
    if "model" in config:
        config = {**config, "model": str(srsdk.models.find(config["model"]))}
    return worker.call(task, config)


def line(record: records.Record) -> str:
    """Format a record as one readable line."""
    config, result = record["config"], record["result"]
    what = [record["kind"], *(str(config[k]) for k in ("model", "workload") if k in config)]
    what += [str(config["scenario"])] if "scenario" in config else []
    lack = records.missing(record)
    if lack is not None:
        return f"{' '.join(what)}: {records.not_here(lack)}"
    numbers = [f"{k} {v:.4g}" for k, v in result.items() if isinstance(v, int | float)]
    return f"{' '.join(what)}: {', '.join(numbers)}"


def _jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    options: dict[str, Any] = {"backend": arguments.backend, "threads": arguments.threads}
    if arguments.precision != "auto":
        options["precision"] = arguments.precision
    yield "ceilings", {"threads": arguments.threads or machine.usable_cores()}
    yield "import", {"times": 3 if arguments.short else 15}
    for model in arguments.models:
        base = {"model": model, "options": options}
        for name in arguments.workloads:
            kind = WORKLOADS[name].kind
            if kind in SCALES and model.split(".")[0] not in SCALES[kind]:
                continue
            if kind == "video":
                yield "video", {**base, "workload": name, "frames": arguments.frames}
                continue
            if kind == "mixed":
                yield "mixed", {**base, "workload": name}
                continue
            for scenario in arguments.scenarios:
                yield "scenario", {**base, "workload": name, **_load(arguments, scenario)}
            if kind == "pictures":
                yield "stages", {**base, "workload": name, "runs": min(arguments.queries, 8)}
                yield "startup", {**base, "workload": name}


def _load(arguments: argparse.Namespace, scenario: str) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "queries": arguments.queries,
        "seconds": arguments.seconds,
        "qps": arguments.qps,
        "bound_ms": arguments.bound_ms,
    }


def _result(task: str, config: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """Add values derived from the raw measurements."""
    if task == "stages":
        return {**raw, "median_ms": {name: median(ms) for name, ms in raw["ms"].items()}}
    if task not in ("scenario", "video", "mixed"):
        return raw
    found: dict[str, Any] = {**percentiles(raw["ms"]), **raw}
    if task == "mixed":
        return {**found, "pictures_per_s": raw["pictures"] / raw["seconds"]}
    if task == "scenario":
        found["pictures_per_s"] = raw["pictures"] / raw["seconds"]
        if config["scenario"] == "Server":
            late = sum(ms > raw["bound_ms"] for ms in raw["ms"])
            found["within_bound"] = 1 - late / len(raw["ms"])
    rate = found.get("fps", found.get("pictures_per_s", 0.0))
    return {**found, **_throughput(config, rate)}


def _throughput(config: dict[str, Any], pictures_per_s: float) -> dict[str, float]:
    """Return the work done per second: output pixels, operations, bytes."""
    workload = WORKLOADS[config["workload"]]
    if workload.kind == "folder":
        return {}
    path = srsdk.models.find(config["model"])
    manifest = srsdk.manifest.read_manifest(path)
    precision = config["options"].get("precision") or (manifest.precision if manifest else "fp32")
    one = cost.count(path, workload.height, workload.width, precision)
    out = cost.out_bytes(path, workload.height * workload.width) / 3
    return {
        "mp_per_s": pictures_per_s * out / 1e6,
        "flop_per_s": pictures_per_s * one.flop,
        "bytes_per_s": pictures_per_s * one.moved_bytes,
        "flop_per_byte": one.intensity,
    }
