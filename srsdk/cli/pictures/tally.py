"""Count, report and show the outcomes of a run."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from srsdk.batch import folder, jobs, reports, unread
from srsdk.cli.terminal import fail, say
from srsdk.cli.wording import for_command_line

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

        Ctrl-C may interrupt this anywhere. The next call then begins with the outcome that was
        interrupted, which counts once, and reports what was not.
        """
        for outcome in outcomes:
            if not self._taken or outcome is not self._taken[-1]:
                self._taken.append(outcome)
        while self._shown < len(self._taken):
            outcome = self._taken[self._shown]
            shown = replace(outcome, error=for_command_line(outcome.error))
            # before: Ctrl-C in the write call is raised after the line is written
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
