"""`srsdk upscale`: upscale image files and folders of images."""

from __future__ import annotations

import argparse
from contextlib import closing
from functools import partial
from pathlib import Path

import srsdk
from srsdk.batch import folder, jobs, reports
from srsdk.cli.arguments import (
    EXIT_FAILED,
    STREAM,
    add_running_arguments,
    model_name,
    path_or_url,
    positive,
)
from srsdk.cli.pictures import cluster, naming, pipes
from srsdk.cli.pictures import options as choices
from srsdk.cli.pictures.tally import Tally, show_unread
from srsdk.cli.terminal import fail, progress, say
from srsdk.errors import UsageError
from srsdk.image import comparison, decode
from srsdk.scheduling.context import Progress

EPILOG = """\
examples:
  srsdk upscale photo.jpg                   write photo_x4.jpg beside it
  srsdk upscale photos -r                   write the folder photos_x4
  srsdk upscale a.png b.png -o large        write large/a.png and large/b.png
  srsdk upscale scan.tif --scale 2.5 -o large.png
  srsdk upscale - -o - --format jpeg < small.jpg > large.jpg
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare the options of `srsdk upscale`."""
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.usage = "%(prog)s IN [IN ...] [-o OUT] [options]"
    command.epilog = EPILOG
    _add_files(command.add_argument_group("input and output"))
    choices.add_model_choice(command.add_argument_group("model"))
    choices.add_size(command.add_argument_group("size"))
    choices.add_encoding(command.add_argument_group("format of the results"))
    speed = command.add_argument_group("speed and memory")
    add_running_arguments(speed)
    speed.add_argument(
        "--jobs", type=positive, metavar="N", help="images to process in parallel; each uses memory"
    )
    choices.add_memory(speed)
    cluster.add_arguments(command.add_argument_group("many machines (needs srsdk[ray])"))


def _add_files(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "sources",
        nargs="+",
        type=path_or_url,
        metavar="IN",
        help="image files or folders; - reads one image from standard input (HEIC needs "
        "srsdk[heif], JPEG XL srsdk[jxl])",
    )
    add(
        "-o",
        "--output",
        type=path_or_url,
        metavar="OUT",
        help="output file (for a single IN file) or folder, created if missing; - writes to "
        "standard output (default: NAME_x4.SUFFIX beside the source, for a folder IN the folder "
        "IN_x4; the number is the scale; png for HEIC and other formats that are rarely written)",
    )
    add(
        "-r",
        "--recursive",
        action="store_true",
        help="include subfolders and keep the folder structure",
    )
    add("--force", action="store_true", help="overwrite existing files")
    add(
        "--strict",
        action="store_true",
        help="exit with 1 also if a folder holds pictures that cannot be read",
    )
    add(
        "--compare",
        action="store_true",
        help="also write a side-by-side image of bicubic and result",
    )
    add("--report", type=Path, metavar="FILE", help="append one JSON line per image to FILE")


def run(arguments: argparse.Namespace) -> int:
    """Upscale files and folders; a bad file costs one line, the others are still upscaled."""
    options = choices.options(arguments)
    if arguments.ray is not None:
        choices.check_supported_by_ray(arguments, options)
        return cluster.run(arguments, model_name(arguments))
    for each in (*arguments.sources, arguments.output):
        if isinstance(each, str) and each != STREAM:
            raise UsageError(f"{each} is a URL, expected a local path; add --ray to use URLs")
    naming.check_output(arguments.output, arguments.format)
    if pipes.is_pipe(arguments):
        return pipes.run(arguments, options)
    reports.check(arguments.report)
    plan = jobs.plan(
        arguments.sources,
        arguments.output,
        naming=naming.naming(arguments, options),
        recursive=arguments.recursive,
        compare=arguments.compare,
        report=arguments.report,
    )
    for line in plan.notes:
        say(line)
    for line in plan.problems:
        fail(line)
    unreadable = show_unread(plan.unread)
    tally = _upscale_all(plan, arguments, options)
    return EXIT_FAILED if tally.count["failed"] or (unreadable and arguments.strict) else 0


def _upscale_all(
    plan: jobs.Plan, arguments: argparse.Namespace, options: srsdk.PictureOptions
) -> Tally:
    single = len(plan.jobs) + len(plan.problems) == 1
    tally = Tally(plan, single)
    if not plan.jobs:
        if not single:
            say(tally.summary())
        return tally
    with (
        reports.lines_to(arguments.report) as append,
        choices.open_models(arguments, "latency" if single else "throughput") as up,
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
    return tally


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


def _title(plan: jobs.Plan) -> str:
    return plan.jobs[0].source.name if len(plan.jobs) == 1 else "pictures"
