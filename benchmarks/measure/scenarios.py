"""Run the four MLPerf Inference scenarios with MLPerf's own load generator.

Reddi et al., "MLPerf Inference Benchmark", ISCA 2020: SingleStream sends the next picture when the
last one is done; MultiStream sends several at once; Offline sends all at once; Server sends them at
random times (a Poisson process) and counts how many are late.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCENARIOS = ("SingleStream", "MultiStream", "Offline", "Server")


@dataclass(frozen=True)
class Load:
    """Parameters of one scenario."""

    scenario: str
    """One of `SCENARIOS`."""
    queries: int
    """Number of queries; Offline sends one query with this many pictures."""
    streams: int = 4
    """MultiStream: pictures per query."""
    workers: int = 2
    """Threads that call the Upscaler; SingleStream uses one."""
    qps: float = 1.0
    """Server: average queries per second."""
    bound_ms: float = 1000.0
    """Server: latency beyond which a picture is late."""
    seed: int = 0
    """Random seed for arrival times and order."""


@dataclass
class _Clock:
    """Query latencies that we measure, from issue to the end of the last picture."""

    ms: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, began: float) -> None:
        with self.lock:
            self.ms.append(1000 * (time.perf_counter() - began))


class _Query:
    """Count down the pictures of a query and record its latency."""

    def __init__(self, pictures: int, clock: _Clock) -> None:
        self._left, self._clock = pictures, clock
        self._began = time.perf_counter()
        self._lock = threading.Lock()

    def done(self) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._clock.add(self._began)


def run(load: Load, work: Callable[[int], None], pictures: int) -> dict[str, Any]:
    """Run one scenario; `work(index)` upscales picture `index`.

    Returns:
        `ms` (latency of each query), `seconds`, `pictures`, `loadgen` (the generator's summary).

    Raises:
        RuntimeError: `work` failed.
    """
    import mlperf_loadgen as lg

    clock, failures = _Clock(), list[BaseException]()
    workers = 1 if load.scenario == "SingleStream" else load.workers
    with ThreadPoolExecutor(workers) as pool, tempfile.TemporaryDirectory() as folder:

        def one(sample: tuple[int, int], query: _Query) -> None:
            try:
                work(sample[1])
            except BaseException as error:
                failures.append(error)
            query.done()
            # always answer: the generator would wait forever
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample[0], 0, 0)])

        def issue(samples: list[Any]) -> None:
            query = _Query(len(samples), clock)
            for sample in samples:
                pool.submit(one, (sample.id, sample.index), query)

        seconds = _generate(lg, load, issue, pictures, folder)
        summary = _read_summary(Path(folder) / "mlperf_log_summary.txt")
    if failures:
        raise RuntimeError(f"{load.scenario}: {failures[0]!r}") from failures[0]
    per_query = {"MultiStream": load.streams, "Offline": load.queries}.get(load.scenario, 1)
    done = len(clock.ms) * per_query
    return {"ms": clock.ms, "seconds": seconds, "pictures": done, "loadgen": summary}


def _generate(
    lg: Any, load: Load, issue: Callable[[list[Any]], None], pictures: int, folder: str
) -> float:
    output = lg.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = folder, False
    logs = lg.LogSettings()
    logs.log_output, logs.enable_trace = output, False
    sut = lg.ConstructSUT(issue, _nothing)
    library = lg.ConstructQSL(pictures, pictures, _nothing, _nothing)
    began = time.perf_counter()
    try:
        lg.StartTestWithLogSettings(sut, library, _settings(lg, load), logs)
    finally:
        lg.DestroyQSL(library)
        lg.DestroySUT(sut)
    return time.perf_counter() - began


def _settings(lg: Any, load: Load) -> Any:
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, load.scenario)
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = 0
    settings.min_query_count = settings.max_query_count = load.queries
    settings.multi_stream_samples_per_query = load.streams
    settings.server_target_qps = load.qps
    settings.server_target_latency_ns = int(1e6 * load.bound_ms)
    settings.schedule_rng_seed = settings.sample_index_rng_seed = load.seed
    return settings


def _nothing(*_: Any) -> None:
    """Do nothing: all pictures are in memory before the test begins."""


def _read_summary(summary: Path) -> dict[str, str]:
    """Read the load generator's summary of `name : value` lines."""
    pairs = (line.split(" : ", 1) for line in summary.read_text().splitlines() if " : " in line)
    return {name.strip(): value.strip() for name, value in pairs}
