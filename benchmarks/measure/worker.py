"""Run one measurement in its own process: a JSON argument in, a JSON line out.

Two candidates in one process would disturb each other: an engine's idle threads spin.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import machine, workloads
from benchmarks.measure import ceilings, mixed, scenarios, stages, startup, video
from srsdk.errors import SrsdkError
from srsdk.system.processor import processor

WARM_UP_RUNS = 3
WARM_UP_PX = 3 << 19
"""Fewest pixels of a warm-up: after 1 << 20 px of a size, OpenVINO's form for that size is made."""
LIBRARY_PICTURES = 4
MIN_QUERIES = 3
MOST_CHARACTERS = 300

Config = dict[str, Any]


class WorkerError(Exception):
    """A measurement failed in its process; the message gives the reason in one line."""


def call(task: str, config: Config) -> dict[str, Any]:
    """Run one task in a new process.

    Raises:
        WorkerError: it failed, or its process died.
    """
    text = json.dumps({"task": task, "processor_kind": processor().kind, **config})
    return result_of([sys.executable, "-m", "benchmarks.measure.worker", text], machine.ROOT)


def result_of(command: Sequence[str], folder: Path | None = None) -> dict[str, Any]:
    """Run a command and parse its last output line as JSON; no output gives an empty dict.

    Raises:
        WorkerError: it failed, or its process died.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise WorkerError(_failure(done))
    result: dict[str, Any] = json.loads((done.stdout.splitlines() or ["{}"])[-1])
    return result


@contextmanager
def report_failures() -> Iterator[None]:
    """Write an exception as a JSON line for `result_of` in the parent process; re-raise it."""
    try:
        yield
    except Exception as error:
        sys.stdout.write("\n" + json.dumps({"failed": reason(error)}) + "\n")
        raise


def reason(error: Exception) -> str:
    """Return the reason of a failure in one short line, without local paths."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is not installed"
    ours = isinstance(error, SrsdkError | WorkerError)
    return _one_line(str(error) if ours else f"{type(error).__name__}: {error}")


def _failure(done: subprocess.CompletedProcess[str]) -> str:
    """Return the reason that `main` wrote, or how the process died."""
    for line in reversed(done.stdout.splitlines()):
        if line.startswith('{"failed":'):
            return str(json.loads(line)["failed"])
    if done.returncode < 0:
        return f"its process was killed by {signal.Signals(-done.returncode).name}"
    last = done.stderr.strip().splitlines()[-1:] or ["no error output"]
    return _one_line(f"its process ended with code {done.returncode}: {last[0]}")


def _one_line(text: str) -> str:
    without_folders = re.sub(r"(?<![\w./])(?:/[\w.+~-]+)+/", "", " ".join(text.split()))
    if len(without_folders) <= MOST_CHARACTERS:
        return without_folders
    return without_folders[: MOST_CHARACTERS - 3] + "..."


def _scenario(config: Config) -> dict[str, Any]:
    workload = workloads.WORKLOADS[config["workload"]]
    with tempfile.TemporaryDirectory() as folder:
        work, count = _work(config, workload, Path(folder))
        for index in range(max(WARM_UP_RUNS, WARM_UP_PX // (workload.height * workload.width))):
            work(index % count)
        median_ms = _median_ms(work, count)
        load = _load(config, median_ms)
        result = scenarios.run(load, work, count)
    bound = {"bound_ms": load.bound_ms, "qps": load.qps}
    return {**result, **(bound if load.scenario == "Server" else {})}


def _work(
    config: Config, workload: workloads.Workload, folder: Path
) -> tuple[Callable[[int], None], int]:
    import srsdk

    up = srsdk.Upscaler(config["model"], **config["options"])
    if workload.kind == "folder":
        paths = workloads.write_folder(folder)

        def file(index: int) -> None:
            target = folder / f"large-{index}-{time.perf_counter_ns()}.png"
            up.upscale_file(paths[index], target)

        return file, len(paths)
    made = workloads.pictures(workload, LIBRARY_PICTURES)

    def array(index: int) -> None:
        up(made[index])

    return array, len(made)


def _median_ms(work: Callable[[int], None], count: int) -> float:
    times = []
    for index in range(max(3, count)):
        began = time.perf_counter()
        work(index % count)
        times.append(1000 * (time.perf_counter() - began))
    return sorted(times)[len(times) // 2]


def _load(config: Config, median_ms: float) -> scenarios.Load:
    """Return the load; Server defaults to half the capacity and a bound of three medians."""
    scenario, seconds = config["scenario"], config["seconds"]
    qps = config["qps"] or 500 / median_ms
    a_second = qps if scenario == "Server" else 1000 / median_ms
    load = scenarios.Load(scenario, 1, qps=qps, bound_ms=config["bound_ms"] or 3 * median_ms)
    pictures = load.streams if scenario == "MultiStream" else 1
    most = max(MIN_QUERIES, int(seconds * a_second / pictures))
    return replace(load, queries=min(config["queries"], most))


def _stages(config: Config) -> dict[str, Any]:
    from PIL import Image

    w = workloads.WORKLOADS[config["workload"]]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.jpg"
        Image.fromarray(workloads.picture(w.height, w.width)).save(source, quality=95)
        target = Path(folder) / "target.jpg"
        return stages.measure(config["model"], source, target, config["runs"], **config["options"])


def _startup(config: Config) -> dict[str, Any]:
    return startup.measure(config["model"], config["workload"], **config["options"])


def _mixed(config: Config) -> dict[str, Any]:
    return mixed.measure(config["model"], **config["options"])


def _video(config: Config) -> dict[str, Any]:
    workload = workloads.WORKLOADS[config["workload"]]
    return video.measure(config["model"], workload, config["frames"], **config["options"])


def _ceilings(config: Config) -> dict[str, Any]:
    return ceilings.measure(config["threads"])


def _layers(config: Config) -> dict[str, Any]:
    from benchmarks.peers.engine import layer_times

    precision = config["precision"]
    if precision in (lacks := ceilings.missing()):
        raise WorkerError(lacks[precision])
    peak = ceilings.flop_per_s(precision, config["threads"])
    return {**layer_times.measure(config), "peak_flop_per_s": peak}


def _inflight(config: Config) -> dict[str, Any]:
    from benchmarks.peers.engine import flights

    return flights.measure(config)


def _peer(config: Config) -> dict[str, Any]:
    from benchmarks.peers import adapters

    return adapters.measure(config)


def _quality(config: Config) -> dict[str, Any]:
    from benchmarks.peers import adapters

    return adapters.quality(config)


def _restoration(config: Config) -> dict[str, Any]:
    from benchmarks.peers import denoisers

    return denoisers.measure(config)


TASKS: dict[str, Callable[[Config], dict[str, Any]]] = {
    "scenario": _scenario,
    "stages": _stages,
    "startup": _startup,
    "mixed": _mixed,
    "video": _video,
    "ceilings": _ceilings,
    "peer": _peer,
    "quality": _quality,
    "restoration": _restoration,
    "layers": _layers,
    "inflight": _inflight,
}


def _check_processor(expected: str) -> None:
    """Raise unless this process runs on the processor that the record will name.

    An emulator may emulate the processor of a command but not of the processes that it starts.
    """
    found = processor().kind
    if found != expected:
        raise WorkerError(f"its process runs on {found}, but the command on {expected}")


def main() -> None:
    """Run the task in the only argument; a failure writes a JSON line and a traceback."""
    config = json.loads(sys.argv[1])
    with report_failures():
        _check_processor(config.pop("processor_kind"))
        result = TASKS[config.pop("task")](config)
    result["peak_bytes"] = machine.peak_bytes()
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
