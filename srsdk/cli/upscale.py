"""`srsdk upscale`: upscale image files and folders of images."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import srsdk
from srsdk.batch import folder, jobs, reports
from srsdk.cli import cluster, picture_options
from srsdk.cli.arguments import (
    EXIT_FAILED,
    add_running_arguments,
    model_name,
    path_or_url,
    positive,
)
from srsdk.cli.terminal import progress, say
from srsdk.errors import UsageError
from srsdk.image import comparison, decode
from srsdk.scheduling.context import Progress

log = logging.getLogger("srsdk")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk upscale`."""
    command.add_argument(
        "sources", nargs="+", type=path_or_url, metavar="IN", help="image files or folders"
    )
    command.add_argument(
        "-o",
        "--output",
        type=path_or_url,
        required=True,
        metavar="OUT",
        help="output file (for a single IN file) or folder, created if missing",
    )
    command.add_argument(
        "-r",
        "--recursive",
        action="store_true",
        help="include subfolders and keep the folder structure",
    )
    picture_options.add_arguments(command)
    add_running_arguments(command)
    command.add_argument(
        "--jobs", type=positive, metavar="N", help="images to process in parallel; each uses memory"
    )
    command.add_argument(
        "--report", type=Path, metavar="FILE", help="append one JSON line per image to FILE"
    )
    command.add_argument("--force", action="store_true", help="overwrite existing files")
    command.add_argument(
        "--compare",
        action="store_true",
        help="also write a side-by-side image of bicubic and result",
    )
    cluster.add_arguments(command.add_argument_group("many machines (needs srsdk[ray])"))


def run(arguments: argparse.Namespace) -> int:
    """Upscale files and folders; a bad file costs one line, the others are still upscaled."""
    options = picture_options.options(arguments)
    if arguments.ray is not None:
        picture_options.check_supported_by_ray(arguments, options)
        return cluster.run(arguments, model_name(arguments))
    for each in (*arguments.sources, arguments.output):
        if not isinstance(each, Path):
            raise UsageError(f"{each} is a URL, expected a local path; add --ray to use URLs")
    reports.check(arguments.report)
    plan = jobs.plan(
        arguments.sources,
        arguments.output,
        recursive=arguments.recursive,
        compare=arguments.compare,
        report=arguments.report,
    )
    for line in (*plan.notes, *plan.problems):
        say(line)
    single = len(plan.jobs) + len(plan.problems) == 1
    tally = _Tally(plan, single)
    with (
        reports.lines_to(arguments.report) as append,
        picture_options.open_models(arguments, "latency" if single else "throughput") as up,
        progress(_title(plan), "tile" if single else "picture", lines=not single) as show,
    ):
        outcomes = folder.run(
            plan.jobs,
            partial(_upscale_one, up, arguments, options),
            threads=arguments.jobs or up.ahead,
            skip=plan.into_folder and not arguments.force,
            progress=show if single else None,
            late=lambda found: tally.add(found, append),
        )
        try:
            with closing(outcomes):
                for outcome in outcomes:
                    tally.add([outcome], append)
                    if show is not None and not single:
                        show(tally.pictures, len(plan.jobs))
        finally:
            if not single:
                say(tally.summary())
    return EXIT_FAILED if tally.count["failed"] else 0


class _Tally:
    """Counts, reports and shows outcomes."""

    def __init__(self, plan: jobs.Plan, single: bool) -> None:
        self.count = Counter(failed=len(plan.problems))
        self.pictures = 0
        self._single = single

    def add(self, outcomes: Sequence[folder.Outcome], append: reports.Append) -> None:
        """Take outcomes; they count even if the report cannot be written."""
        self.pictures += len(outcomes)
        self.count.update(outcome.status for outcome in outcomes)
        for outcome in outcomes:
            append(outcome.to_dict())
            _show_outcome(outcome, self._single)

    def summary(self) -> str:
        """Return the last line of a run."""
        count = self.count
        skipped = f"{count['skipped']} skipped, " if count["skipped"] else ""
        return f"{count['done']} done, {skipped}{count['failed']} failed"


def _upscale_one(
    up: srsdk.Chain,
    arguments: argparse.Namespace,
    options: srsdk.PictureOptions,
    job: jobs.Job,
    show: Progress | None,
) -> None:
    if job.comparison is not None:
        decode.check_target(job.comparison, overwrite=arguments.force)
        comparison.check_source(job.source, up.scale, options)
    up.upscale_file(
        job.source, job.target, options=options, overwrite=arguments.force, progress=show
    )
    if job.comparison is not None:
        comparison.write(
            job.source, job.target, job.comparison, limit_bytes=options.max_memory_bytes
        )
        say(f"wrote {job.comparison} (bicubic left, {up.name} right)")


def _show_outcome(outcome: folder.Outcome, single: bool) -> None:
    if outcome.status == "failed":
        say(outcome.error)
    elif outcome.status == "skipped" and single:
        say(f"{outcome.job.target} exists, skipped; --force replaces it")
    elif outcome.status == "done" and (single or log.isEnabledFor(logging.INFO)):
        say(f"wrote {outcome.job.target}")


def _title(plan: jobs.Plan) -> str:
    return plan.jobs[0].source.name if len(plan.jobs) == 1 else "pictures"
