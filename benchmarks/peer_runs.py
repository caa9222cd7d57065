"""`python -m benchmarks peers`: the same picture through srsdk and through what others offer."""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

import srsdk
from benchmarks import machine, records, worker
from benchmarks.machine import ROOT
from benchmarks.peers import PEERS, Job, missing
from benchmarks.statistics import median_interval, percentiles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `peers`."""
    _add_who(parser)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5, help="processes of each peer")
    parser.add_argument("--runs", type=int, default=10, help="timed calls in each process")
    parser.add_argument("--seconds", type=float, default=2.0, help="at most, of each process")
    parser.add_argument(
        "--budget", type=float, default=float("inf"), help="seconds; no round begins beyond it"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.set_defaults(run=run)


def add_quality_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `quality`."""
    _add_who(parser)
    parser.add_argument("--test", type=Path, required=True, help="folder of pictures")
    parser.set_defaults(run=score, height=0, width=0)


def _add_who(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), help="all but the slow ones")
    parser.add_argument("--model", default="gan_x4", help="what peers of the same model run")
    parser.add_argument("--weights", type=Path, help="the same as a checkpoint, for PyTorch")
    parser.add_argument("--files", type=Path, help="folder with the peers' own files")
    parser.add_argument("--engine", type=Path, help="the same as an .engine file, for GPUs")
    parser.add_argument("--threads", type=int, default=machine.usable_cores())
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="append the results here")


def run(arguments: argparse.Namespace) -> int:
    """Run every peer in its own processes, in shuffled order; ratios are within a round."""
    job = _job(arguments)
    names = _names(arguments, job)
    if _reference(job) not in names:
        sys.stderr.write(f"benchmarks: nothing to compare with, {_reference(job)} is not there\n")
        return 1
    before, facts = machine.moment(), machine.describe()
    raw = _rounds(names, job, arguments)
    arguments.rounds = len(raw[_reference(job)])
    after = machine.moment()
    for name in names:
        record = records.make(
            "peer",
            _config(name, arguments, _reference(job)),
            _result(raw, name, _reference(job)),
            facts,
            before,
            after,
            machine.command_line(),
        )
        sys.stdout.write(line(record) + "\n")
        if arguments.out:
            records.append(arguments.out, record)
    return 0


def _rounds(
    names: list[str], job: Job, arguments: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """Run whole rounds, as many as were asked for or as the budget has room for."""
    raw: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    config = {"job": asdict(job), "runs": arguments.runs, "seconds": arguments.seconds}
    began = time.monotonic()
    for number in range(arguments.rounds):
        round_began = time.monotonic()
        order = _shuffled(names, arguments, number)
        for name in tqdm(order, unit="process", disable=not sys.stderr.isatty()):
            raw[name].append(worker.call("peer", {"peer": name, **config}))
        now = time.monotonic()
        if now - began + (now - round_began) > arguments.budget:
            break
    return raw


def score(arguments: argparse.Namespace) -> int:
    """Score every peer that was trained on a folder of pictures."""
    job, facts = _job(arguments), machine.describe()
    folder = str(arguments.test.resolve())
    for name in filter(lambda name: PEERS[name].trained, _names(arguments, job)):
        config = {"peer": name, "job": asdict(job), "test": folder}
        before = machine.moment()
        found = worker.call("quality", config)
        result = {key: found[key] for key in ("psnr_y_db", "ssim_y")}
        stored = {"peer": name, "model": arguments.model, "test": arguments.test.name}
        after, command = machine.moment(), machine.command_line()
        record = records.make("quality", stored, result, facts, before, after, command)
        sys.stdout.write(f"{name}: {result['psnr_y_db']:.3f} dB / {result['ssim_y']:.4f}\n")
        if arguments.out:
            records.append(arguments.out, record)
    return 0


def line(record: records.Record) -> str:
    """Return a record in one line for people."""
    config, result = record["config"], record["result"]
    return (
        f"{config['title']}: {result['median_ms']:.1f} ms "
        f"({result['low_ms']:.1f} to {result['high_ms']:.1f}), {result['ratio']:.3f} of "
        f"{config['reference']}, {result['peak_bytes'] / 2**20:.0f} MiB"
    )


def _job(arguments: argparse.Namespace) -> Job:
    weights = arguments.weights or ROOT / "training" / "weights" / f"{arguments.model}.safetensors"
    return Job(
        model=arguments.model,
        weights=str(weights),
        height=arguments.height,
        width=arguments.width,
        threads=arguments.threads,
        files=_absolute(arguments.files),
        engine=_absolute(arguments.engine),
    )


def _reference(job: Job) -> str:
    """Return who takes part always and is what the others' ratios are to."""
    return "srsdk" if job.engine is None else "srsdk-engine"


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _names(arguments: argparse.Namespace, job: Job) -> list[str]:
    """Return who takes part; who is not there is named, with what mends it."""
    asked = arguments.peers or [name for name, peer in PEERS.items() if not peer.slow]
    names = []
    for name in dict.fromkeys([_reference(job), *asked]):
        lack = missing(PEERS[name], job)
        if lack is None:
            names.append(name)
        else:
            sys.stderr.write(f"benchmarks: without {name}: {lack}\n")
    return names


def _shuffled(names: list[str], arguments: argparse.Namespace, number: int) -> list[str]:
    order = list(names)
    random.Random(arguments.seed + number).shuffle(order)
    return order


def _config(name: str, arguments: argparse.Namespace, reference: str) -> dict[str, Any]:
    peer = PEERS[name]
    keys = ("model", "height", "width", "threads", "rounds", "runs", "seconds", "seed")
    return {
        "peer": name,
        "title": peer.title,
        "same_model": peer.same_model,
        "trained": peer.trained,
        "reference": reference,
        **{key: getattr(arguments, key) for key in keys},
        "model_sha256": machine.file_sha256(srsdk.models.find(arguments.model)),
    }


def _result(raw: dict[str, list[dict[str, Any]]], name: str, reference: str) -> dict[str, Any]:
    """Medians over rounds; the ratio is to the reference in the same round."""
    medians = [median(r["ms"]) for r in raw[name]]
    theirs = [median(r["ms"]) for r in raw[reference]]
    ratios = [a / b for a, b in zip(medians, theirs, strict=True)]
    low, high = median_interval(medians)
    ratio_low, ratio_high = median_interval(ratios)
    return {
        **percentiles([ms for r in raw[name] for ms in r["ms"]]),
        "median_ms": median(medians),
        "low_ms": low,
        "high_ms": high,
        "ratio": median(ratios),
        "ratio_low": ratio_low,
        "ratio_high": ratio_high,
        "open_ms": median(r["open_ms"] for r in raw[name]),
        "peak_bytes": median(r["peak_bytes"] for r in raw[name]),
        "ms": [r["ms"] for r in raw[name]],
    }
