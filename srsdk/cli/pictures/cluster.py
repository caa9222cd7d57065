"""`srsdk upscale --ray`: upscale folders on a Ray cluster."""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import closing

from srsdk.batch import reports
from srsdk.cli.arguments import EXIT_FAILED, STREAM, positive
from srsdk.cli.pictures.tally import show_unread
from srsdk.cli.terminal import fail, progress, say
from srsdk.cli.wording import for_command_line
from srsdk.errors import UsageError


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the options of `srsdk upscale --ray`."""
    group.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="upscale on the Ray cluster at ADDRESS, or start a local one for this run; IN and OUT "
        "may be URLs such as s3://...",
    )
    group.add_argument(
        "--workers", type=positive, metavar="N", help="worker processes (default: as many as fit)"
    )
    group.add_argument(
        "--cpus-per-worker", type=float, default=1, metavar="N", help="CPUs per worker (default: 1)"
    )
    group.add_argument(
        "--gpus-per-worker",
        type=float,
        default=0,
        metavar="N",
        help="GPUs per worker; 0.5: two workers share one (default: 0)",
    )
    group.add_argument(
        "--batch", type=positive, default=16, metavar="N", help="images per batch (default: 16)"
    )


def run(arguments: argparse.Namespace, model: str) -> int:
    """Upscale folders on a Ray cluster; skip the pictures that an earlier run finished."""
    from srsdk.ray import cluster, planning

    if arguments.output is None or STREAM in (*arguments.sources, arguments.output):
        raise UsageError("--ray reads and writes folders: name one with -o")
    for name, instead in (
        ("format", "results keep the format of their source"),
        ("compare", "run `srsdk compare` on the results"),
        ("tune", "choose --model and --backend instead"),
        ("threads", "use --cpus-per-worker instead"),
        ("jobs", "use --workers instead"),
    ):
        if getattr(arguments, name):
            raise UsageError(f"--ray cannot be combined with --{name}: {instead}")
    workers = cluster.Workers(
        address=None if arguments.ray == "local" else arguments.ray,
        count=arguments.workers,
        cpus=arguments.cpus_per_worker,
        gpus=arguments.gpus_per_worker,
        batch=arguments.batch,
    )
    names = ("device", "backend", "provider", "tile", "precision")
    options = {name: getattr(arguments, name) for name in names}
    reports.check(arguments.report)
    work = planning.plan(
        arguments.sources,
        arguments.output,
        model=model,
        precision=arguments.precision,
        recursive=arguments.recursive,
        force=arguments.force,
        report=arguments.report,
    )
    for problem in work.problems:
        fail(problem)
    unreadable = show_unread(work.unread)
    count, total = Counter(failed=len(work.problems)), len(work.rows) + len(work.outcomes)
    rows = cluster.run(work, arguments.output, model=model, workers=workers, **options)
    try:
        with (
            reports.lines_to(arguments.report) as report,
            progress("pictures", "picture") as show,
            closing(rows),
        ):
            for row in rows:
                count[row["status"]] += 1
                if row.get("error"):
                    row = {**row, "error": for_command_line(row["error"])}
                report(row)
                if row["status"] == "failed":
                    fail(row["error"])
                if show is not None:
                    show(count.total() - len(work.problems), total)
    finally:
        say(f"{count['done']} done, {count['skipped']} skipped, {count['failed']} failed")
    return EXIT_FAILED if count["failed"] or (unreadable and arguments.strict) else 0
