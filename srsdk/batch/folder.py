"""Upscale many picture files at a time; decoding, upscaling and encoding overlap."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Any

from srsdk.batch.jobs import Job, make_folder
from srsdk.errors import SrsdkError, TargetExistsError
from srsdk.scheduling.context import Progress
from srsdk.scheduling.futures import window
from srsdk.system.threads import started_pool


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
"""Upscales one file into another, which is on the disk when it returns; raises `SrsdkError`."""


def run(
    jobs: list[Job],
    work: Work,
    *,
    threads: int,
    skip: bool,
    progress: Progress | None = None,
    late: Callable[[list[Outcome]], None] = lambda _: None,
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
        late: called when the generator is closed early, with the outcomes of all jobs that have
            ended and were not taken: the one that was yielded last may be among them.

    Raises:
        BackendError: the system refuses to start the threads.
    """
    stopped = Event()
    ended: dict[int, Outcome] = {}

    def report(done: int, total: int) -> None:
        if stopped.is_set():
            raise CancelledError
        if progress is not None:
            progress(done, total)

    def one(index: int) -> int:
        ended[index] = _outcome(jobs[index], work, report, skip=skip)
        return index

    pool = started_pool(max(1, min(threads, len(jobs))), "srsdk-files")

    def begin(index: int) -> Future[int]:
        return pool.submit(one, index)

    try:
        for index in window(begin, range(len(jobs)), threads):
            yield ended[index]
            # only now is it taken: Ctrl-C may come while the consumer has it in hand
            del ended[index]
    finally:
        stopped.set()
        _wait_for(pool)
        if ended:
            late([ended[index] for index in sorted(ended)])


def _wait_for(pool: ThreadPoolExecutor) -> None:
    """Wait for the running jobs, even if Ctrl-C is pressed again: they stop within one tile."""
    pressed: KeyboardInterrupt | None = None
    while True:
        try:
            pool.shutdown(wait=True, cancel_futures=True)
        except KeyboardInterrupt as again:
            pressed = again
        else:
            break
    if pressed is not None:
        raise pressed


def _outcome(job: Job, work: Work, report: Progress, *, skip: bool) -> Outcome:
    began_s = time.monotonic()
    try:
        if skip and job.target.exists():
            return Outcome(job, "skipped", 0.0)
        make_folder(job.target.parent)
        work(job, report)
    except SrsdkError as error:
        if skip and isinstance(error, TargetExistsError) and job.target.exists():
            # another run has written it meanwhile
            return Outcome(job, "skipped", time.monotonic() - began_s)
        text = str(error)
        if str(job.source) not in text and str(job.target) not in text:
            text = f"{job.source}: {text}"
    except OSError as error:
        # such as a folder that may not be entered
        text = f"{error.filename or job.source}: {error.strerror or error}"
    else:
        return Outcome(job, "done", time.monotonic() - began_s)
    return Outcome(job, "failed", time.monotonic() - began_s, text)
