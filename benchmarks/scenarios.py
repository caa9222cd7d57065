"""The four scenarios of MLPerf Inference, driven by its own load generator.

Reddi et al., "MLPerf Inference Benchmark", ISCA 2020: SingleStream sends the next picture when the
last one is done; MultiStream sends several at once; Offline sends all of them; Server sends them at
random moments (a Poisson process) and asks how many are late.
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
    """How a scenario loads what is measured."""

    scenario: str
    """One of `SCENARIOS`."""
    queries: int
    """Queries in all; Offline puts as many pictures into its only one."""
    streams: int = 4
    """Pictures in a query of MultiStream."""
    workers: int = 2
    """Threads that call the Upscaler; SingleStream has one."""
    qps: float = 1.0
    """Server: queries a second, on average."""
    bound_ms: float = 1000.0
    """Server: a picture is late beyond this."""
    seed: int = 0
    """Of the moments and of the order."""


@dataclass
class _Clock:
    """Latencies as seen from here, from the issue of a query to the end of its last picture."""

    ms: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, began: float) -> None:
        with self.lock:
            self.ms.append(1000 * (time.perf_counter() - began))


class _Query:
    """Counts down the pictures of a query."""

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
        `ms` (all latencies of queries), `seconds`, `pictures`, and the load generator's own words.

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
            # answered in any case: the generator would wait for ever
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample[0], 0, 0)])

        def issue(samples: list[Any]) -> None:
            query = _Query(len(samples), clock)
            for sample in samples:
                pool.submit(one, (sample.id, sample.index), query)

        seconds = _generate(lg, load, issue, pictures, folder)
        words = _words(Path(folder) / "mlperf_log_summary.txt")
    if failures:
        raise RuntimeError(f"{load.scenario}: {failures[0]!r}") from failures[0]
    per_query = {"MultiStream": load.streams, "Offline": load.queries}.get(load.scenario, 1)
    done = len(clock.ms) * per_query
    return {"ms": clock.ms, "seconds": seconds, "pictures": done, "loadgen": words}


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
    """Pictures are in memory before the test begins."""


def _words(summary: Path) -> dict[str, str]:
    """Read what the load generator says: `name : value` lines."""
    pairs = (line.split(" : ", 1) for line in summary.read_text().splitlines() if " : " in line)
    return {name.strip(): value.strip() for name, value in pairs}
