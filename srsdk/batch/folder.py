"""Upscale many picture files at a time; decoding, upscaling and encoding overlap."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from srsdk.batch.jobs import Job, make_folder_of
from srsdk.errors import OutputError, SrsdkError
from srsdk.scheduling.context import Progress
from srsdk.scheduling.futures import window


@dataclass(frozen=True)
class Outcome:
    """Result of one job."""

    job: Job
    status: str
    """`done`, `skipped` (the target existed) or `failed`."""
    seconds: float
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the line of the report as a dict."""
        line: dict[str, Any] = {
            "source": str(self.job.source),
            "target": str(self.job.target),
            "status": self.status,
            "seconds": round(self.seconds, 4),
        }
        return {**line, "error": self.error} if self.error else line


Work = Callable[[Job, Progress | None], None]
"""Upscales one file into another; raises `SrsdkError`."""


def run(
    jobs: list[Job],
    work: Work,
    *,
    threads: int,
    skip: bool,
    progress: Progress | None = None,
) -> Generator[Outcome, None, None]:
    """Run all jobs and yield their outcomes in order; a failure costs one job.

    While one thread waits for the device, the others decode and encode. Closing the generator, as
    an exception in its consumer does, stops every picture within one tile.

    Args:
        jobs: the jobs of a `srsdk.batch.jobs.plan`.
        work: upscales one job.
        threads: number of jobs to run at the same time.
        skip: skip jobs whose target exists.
        progress: called with (tiles done, tiles in total) of a picture, from any of the threads.
    """
    stopped = Event()

    def report(done: int, total: int) -> None:
        if stopped.is_set():
            raise CancelledError
        if progress is not None:
            progress(done, total)

    def one(job: Job) -> Outcome:
        began_s = time.monotonic()
        if skip and job.target.exists():
            return Outcome(job, "skipped", 0.0)
        try:
            make_folder_of(job)
            work(job, report)
        except SrsdkError as error:
            return Outcome(job, "failed", time.monotonic() - began_s, str(error))
        return Outcome(job, "done", time.monotonic() - began_s)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="srsdk-files")

    def begin(job: Job) -> Future[Outcome]:
        return pool.submit(one, job)

    try:
        yield from window(begin, jobs, threads)
    finally:
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def report_to(path: Path | None) -> Iterator[Callable[[Outcome], None]]:
    """Yield a function that appends an outcome to a JSON Lines file; see `lines_to`.

    Raises:
        OutputError: the file cannot be written.
    """
    with lines_to(path) as append:
        yield lambda outcome: append(outcome.to_dict())


@contextmanager
def lines_to(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that appends a line to a JSON Lines file, unbuffered so a kill loses none.

    Raises:
        OutputError: the file cannot be written.
    """
    if path is None:
        yield lambda _: None
        return
    try:
        # unbuffered: each line is written at once, and closing has nothing left that could fail
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error

    def append(line: dict[str, Any]) -> None:
        try:
            file.write(f"{json.dumps(line)}\n".encode())
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error

    with file:
        yield append
