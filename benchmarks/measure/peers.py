"""`python -m benchmarks peers`: upscale the same picture with srsdk and other libraries."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

import srsdk
from benchmarks import machine, records
from benchmarks.machine import ROOT
from benchmarks.measure import worker
from benchmarks.measure.statistics import median_interval, percentiles
from benchmarks.measure.worker import WorkerError
from benchmarks.peers.adapters import PEERS, Job, missing, no_gpu

Raw = dict[str, list[dict[str, Any]]]

EXIT_MISSING = 1


class PeersError(Exception):
    """A folder of pictures that cannot be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `peers`."""
    _add_common(parser)
    parser.add_argument(
        "--height", type=int, default=360, help="picture height in pixels (default: 360)"
    )
    parser.add_argument(
        "--width", type=int, default=640, help="picture width in pixels (default: 640)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="processes per peer (default: 5)")
    parser.add_argument(
        "--runs", type=int, default=10, help="timed calls per process (default: 10)"
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="time limit per process in seconds (default: 2)"
    )
    parser.add_argument(
        "--budget", type=float, default=float("inf"), help="time limit for all rounds in seconds"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the order (default: 0)")
    parser.set_defaults(run=run)


def add_quality_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `quality`."""
    _add_common(parser)
    parser.add_argument("--test", type=Path, required=True, help="folder of test pictures")
    parser.set_defaults(run=score, height=0, width=0)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peers", nargs="+", choices=list(PEERS), help="default: all but the slow ones"
    )
    parser.add_argument("--model", default="gan_x4", help="model to run (default: gan_x4)")
    parser.add_argument("--weights", type=Path, help="its checkpoint for PyTorch")
    parser.add_argument("--files", type=Path, help="folder of the peers' model files")
    parser.add_argument("--engine", type=Path, help="its .engine file for GPUs")
    parser.add_argument(
        "--threads",
        type=int,
        default=machine.usable_cores(),
        help="threads per peer (default: all cores)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="append the results here")


def run(arguments: argparse.Namespace) -> int:
    """Run every peer in its own processes, in shuffled order; ratios are within a round.

    A peer that cannot run here becomes a row with the reason; the exit code is 1 if the call names
    that peer.

    Raises:
        ModelError: no such model.
    """
    srsdk.models.find(arguments.model)
    job, names = _job(arguments), _names(arguments)
    before, facts = machine.moment(), machine.describe()
    raw, lacks = _rounds(names, job, arguments)
    arguments.rounds = max((len(found) for found in raw.values()), default=0)
    after, reference = machine.moment(), _reference(arguments)
    for name in names:
        record = records.make(
            "peer",
            _config(name, arguments, reference),
            {"missing": lacks[name]} if name in lacks else _result(raw, name, reference),
            facts,
            before,
            after,
            machine.command_line(),
        )
        _report(line(record), record, arguments)
    return exit_code(lacks, arguments)


def exit_code(lacks: Iterable[str], arguments: argparse.Namespace) -> int:
    """Return 1 if the reference or a peer that the call names could not run."""
    named = {*(arguments.peers or []), _reference(arguments)}
    return EXIT_MISSING if named.intersection(lacks) else 0


def _rounds(
    names: list[str], job: Job, arguments: argparse.Namespace
) -> tuple[Raw, dict[str, str]]:
    """Run complete rounds until their number or the time budget is reached.

    Returns:
        The results of each peer, one per round; and the reason for each peer without results.
    """
    lacks = {name: lack for name in names if (lack := missing(PEERS[name], job)) is not None}
    raw: Raw = {name: [] for name in names if name not in lacks}
    config = {"job": asdict(job), "runs": arguments.runs, "seconds": arguments.seconds}
    began = time.monotonic()
    for number in range(arguments.rounds):
        round_began = time.monotonic()
        order = _shuffled(list(raw), arguments, number)
        for name in tqdm(order, unit="process", disable=not sys.stderr.isatty()):
            try:
                raw[name].append(worker.call("peer", {"peer": name, **config}))
            except WorkerError as error:
                lacks[name] = str(error)
                del raw[name]
        now = time.monotonic()
        if now - began + (now - round_began) > arguments.budget:
            break
    return raw, lacks


def score(arguments: argparse.Namespace) -> int:
    """Score all trained peers on a folder of pictures; exit code as for `run`.

    Raises:
        ModelError: no such model.
        PeersError: the folder contains no pictures.
    """
    srsdk.models.find(arguments.model)
    _check_pictures(arguments.test)
    facts, lacks = machine.describe(), set()
    for name in filter(lambda name: PEERS[name].trained, _names(arguments)):
        before = machine.moment()
        result = _score(name, arguments)
        stored = {"peer": name, "model": arguments.model, "test": arguments.test.name}
        after, command = machine.moment(), machine.command_line()
        record = records.make("quality", stored, result, facts, before, after, command)
        if records.missing(record) is not None:
            lacks.add(name)
        _report(quality_line(record), record, arguments)
    return exit_code(lacks, arguments)


def _score(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    job = _job(arguments)
    lack = missing(PEERS[name], job)
    if lack is not None:
        return {"missing": lack}
    config = {"peer": name, "job": asdict(job), "test": str(arguments.test.resolve())}
    try:
        found = worker.call("quality", config)
    except WorkerError as error:
        return {"missing": str(error)}
    return {key: found[key] for key in ("psnr_y_db", "ssim_y")}


def _check_pictures(folder: Path) -> None:
    from training.data.pictures import find_pictures

    try:
        find_pictures(folder)
    except ValueError as error:
        raise PeersError(str(error)) from error


def _report(text: str, record: records.Record, arguments: argparse.Namespace) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    if arguments.out:
        records.append(arguments.out, record)


def line(record: records.Record) -> str:
    """Format a record as one readable line."""
    config, result, lack = record["config"], record["result"], records.missing(record)
    if lack is not None:
        return f"{config['title']}: {records.not_here(lack)}"
    ratio = (
        ""
        if result["ratio"] is None
        else f", {result['ratio']:.3f} of {config['reference']}'s time"
    )
    peak = "" if result["peak_bytes"] is None else f", {result['peak_bytes'] / 2**20:.0f} MiB"
    return (
        f"{config['title']}: {result['median_ms']:.1f} ms "
        f"({result['low_ms']:.1f} to {result['high_ms']:.1f}){ratio}{peak}"
    )


def quality_line(record: records.Record) -> str:
    """Format a quality record as one readable line."""
    name, result, lack = record["config"]["peer"], record["result"], records.missing(record)
    if lack is not None:
        return f"{name}: {records.not_here(lack)}"
    return f"{name}: {result['psnr_y_db']:.3f} dB / {result['ssim_y']:.4f}"


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


def _reference(arguments: argparse.Namespace) -> str:
    """Return the peer that always runs and that all ratios refer to."""
    return "srsdk" if arguments.engine is None else "srsdk-engine"


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _names(arguments: argparse.Namespace) -> list[str]:
    """Return the peers to run; by default no slow ones, and GPU peers only if there is a GPU."""
    with_gpu = arguments.engine is not None or no_gpu() is None
    by_default = [n for n, peer in PEERS.items() if not peer.slow and (with_gpu or not peer.gpu)]
    asked = arguments.peers or by_default
    return list(dict.fromkeys([_reference(arguments), *asked]))


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


def _result(raw: Raw, name: str, reference: str) -> dict[str, Any]:
    """Return medians over rounds; ratios are to the reference in the same round, if it ran."""
    medians = [median(r["ms"]) for r in raw[name]]
    low, high = median_interval(medians)
    peaks = [r["peak_bytes"] for r in raw[name] if r["peak_bytes"] is not None]
    return {
        **percentiles([ms for r in raw[name] for ms in r["ms"]]),
        "median_ms": median(medians),
        "low_ms": low,
        "high_ms": high,
        **_ratio(medians, [median(r["ms"]) for r in raw.get(reference, [])]),
        "open_ms": median(r["open_ms"] for r in raw[name]),
        "peak_bytes": median(peaks) if peaks else None,
        "ms": [r["ms"] for r in raw[name]],
    }


def _ratio(medians: list[float], theirs: list[float]) -> dict[str, float | None]:
    if not theirs:
        return dict.fromkeys(("ratio", "ratio_low", "ratio_high"))
    ratios = [a / b for a, b in zip(medians, theirs, strict=True)]
    low, high = median_interval(ratios)
    return {"ratio": median(ratios), "ratio_low": low, "ratio_high": high}
