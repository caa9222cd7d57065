"""`srsdk upscale`: upscale image files and folders of images."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path

import srsdk
from srsdk.batch import folder, jobs
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
    plan = jobs.plan(arguments.sources, arguments.output, recursive=arguments.recursive)
    for problem in plan.problems:
        say(problem)
    single = len(plan.jobs) + len(plan.problems) == 1
    count = Counter(failed=len(plan.problems))
    with (
        folder.report_to(arguments.report) as report,
        picture_options.open_models(arguments, "latency" if single else "throughput") as up,
        progress(_title(plan), "tile" if single else "picture", lines=not single) as show,
    ):
        outcomes = folder.run(
            plan.jobs,
            partial(_upscale_one, up, arguments, options),
            threads=arguments.jobs or up.ahead,
            skip=plan.into_folder and not arguments.force,
            progress=show if single else None,
        )
        try:
            with closing(outcomes):
                for outcome in outcomes:
                    count[outcome.status] += 1
                    report(outcome)
                    _show_outcome(outcome, single)
                    if show is not None and not single:
                        show(count.total() - len(plan.problems), len(plan.jobs))
        finally:
            if not single:
                say(_summary(count))
    return EXIT_FAILED if count["failed"] else 0


def _upscale_one(
    up: srsdk.Chain,
    arguments: argparse.Namespace,
    options: srsdk.PictureOptions,
    job: jobs.Job,
    show: Progress | None,
) -> None:
    side_by_side = job.target.with_name(f"{job.target.stem}_compare.png")
    if arguments.compare:
        decode.check_target(side_by_side, overwrite=arguments.force)
    up.upscale_file(
        job.source, job.target, options=options, overwrite=arguments.force, progress=show
    )
    if arguments.compare:
        comparison.write(job.source, job.target, side_by_side)
        say(f"wrote {side_by_side} (bicubic left, {up.name} right)")


def _show_outcome(outcome: folder.Outcome, single: bool) -> None:
    if outcome.status == "failed":
        say(outcome.error)
    elif outcome.status == "skipped" and single:
        say(f"{outcome.job.target} exists, skipped; --force replaces it")
    elif outcome.status == "done" and (single or log.isEnabledFor(logging.INFO)):
        say(f"wrote {outcome.job.target}")


def _summary(count: Counter[str]) -> str:
    skipped = f"{count['skipped']} skipped, " if count["skipped"] else ""
    return f"{count['done']} done, {skipped}{count['failed']} failed"


def _title(plan: jobs.Plan) -> str:
    return plan.jobs[0].source.name if len(plan.jobs) == 1 else "pictures"
