"""Many picture files at once: decoding, upscaling and encoding overlap."""

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

from srsdk.call import Progress
from srsdk.errors import OutputError, SrsdkError
from srsdk.futures import window
from srsdk.jobs import Job, make_folder_of


@dataclass(frozen=True)
class Outcome:
    """What became of one job."""

    job: Job
    status: str
    """`done`, `skipped` (its target was there) or `failed`."""
    seconds: float
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return one line of the report."""
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
    """Yield what became of each job, in order; a failure costs one job.

    While one thread waits for the device the others decode and encode. Closing the generator, as
    an exception in its consumer does, stops every picture within one tile.

    Args:
        jobs: from `srsdk.jobs.plan`.
        work: what is done to each.
        threads: jobs at the same time.
        skip: leave out jobs whose target is there.
        progress: called with (tiles done, tiles in all) of a picture, in any of the threads.
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
    """Yield what appends an outcome to a JSON-lines file; see `lines_to`.

    Raises:
        OutputError: it cannot be written.
    """
    with lines_to(path) as append:
        yield lambda outcome: append(outcome.to_dict())


@contextmanager
def lines_to(path: Path | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield what appends a line to a JSON-lines file, at once, so that a kill loses none.

    Raises:
        OutputError: it cannot be written.
    """
    if path is None:
        yield lambda _: None
        return
    try:
        # without a buffer: a line is there at once, and closing has nothing left to fail at
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
