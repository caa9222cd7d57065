"""Count, report and show the outcomes of a run."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from srsdk.batch import folder, jobs, reports, unread
from srsdk.cli.terminal import fail, say
from srsdk.cli.wording import for_command_line

HOLD_S = 2.0
"""How long Ctrl-C waits at most until a line of the report is written."""

log = logging.getLogger("srsdk")


class Tally:
    """What became of the jobs of a plan; each job counts once."""

    def __init__(self, plan: jobs.Plan, single: bool) -> None:
        self._problems = len(plan.problems)
        self._total = len(plan.jobs)
        self._taken: list[folder.Outcome] = []
        self._shown = 0
        self._single = single

    @property
    def pictures(self) -> int:
        """Number of jobs that have ended."""
        return len(self._taken)

    @property
    def count(self) -> Counter[str]:
        """Number of jobs by what became of them; sources that cannot be used count as failed."""
        found = Counter(outcome.status for outcome in self._taken)
        return found + Counter(failed=self._problems)

    def add(self, outcomes: Sequence[folder.Outcome], append: reports.Append) -> None:
        """Take outcomes; they count even if the report cannot be written.

        Ctrl-C waits until they are counted and reported. The next call may begin with the last
        outcome of this one, which counts once.
        """
        with _signals_held():
            for outcome in outcomes:
                if not self._taken or outcome is not self._taken[-1]:
                    self._taken.append(outcome)
            while self._shown < len(self._taken):
                outcome = self._taken[self._shown]
                shown = replace(outcome, error=for_command_line(outcome.error))
                self._shown += 1
                append(shown.to_dict())
                self._show(shown)

    def _show(self, outcome: folder.Outcome) -> None:
        if outcome.status == "failed":
            fail(outcome.error)
        elif outcome.status == "skipped" and self._single:
            say(f"{outcome.job.target} exists, skipped; --force replaces it")
        elif outcome.status == "done" and (self._single or log.isEnabledFor(logging.INFO)):
            say(f"wrote {outcome.job.target}")

    def summary(self) -> str:
        """Return the last line of a run."""
        count, rest = self.count, self._total - self.pictures
        skipped = f"{count['skipped']} skipped, " if count["skipped"] else ""
        unfinished = f", {rest} not finished" if rest else ""
        return f"{count['done']} done, {skipped}{count['failed']} failed{unfinished}"


def show_unread(files: Counter[str]) -> int:
    """Show the files that are not upscaled and why; return how many of them are pictures."""
    pictures = list(unread.picture_files(files))
    for _, line in pictures:
        say(line)
    if others := unread.other_files(files):
        say(others)
    return sum(count for count, _ in pictures)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Deliver signals that raise an exception, such as Ctrl-C, at the end of the block.

    A block that takes longer, such as one that writes to a pipe that nobody reads, can be stopped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    held: list[int] = []
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    handlers = {each: signal.getsignal(each) for each in numbers}
    previous = {each: handler for each, handler in handlers.items() if callable(handler)}
    began_s = time.monotonic()

    def hold(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - began_s > HOLD_S:
            previous[number](number, frame)
        held.append(number)

    try:
        for each in previous:
            signal.signal(each, hold)
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
        if held:
            signal.raise_signal(held[0])
