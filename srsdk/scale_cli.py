"""The commands `srsdk upscale --ray` and `srsdk demo`."""

from __future__ import annotations

import argparse
import threading
from collections import Counter
from contextlib import closing

from srsdk import folder
from srsdk.errors import UsageError
from srsdk.system import TICK_S
from srsdk.terminal import progress, say

EXIT_FAILED = 1


def upscale(arguments: argparse.Namespace, model: str) -> int:
    """Upscale folders over a Ray cluster; what an earlier run has finished is skipped."""
    from srsdk import cluster

    for name, instead in (
        ("compare", "compare files afterwards"),
        ("tune", "name --model and --backend"),
        ("threads", "--cpus-per-worker says it"),
        ("jobs", "--workers says it"),
    ):
        if getattr(arguments, name):
            raise UsageError(f"--ray and --{name} exclude each other: {instead}")
    workers = cluster.Workers(
        address=None if arguments.ray == "local" else arguments.ray,
        count=arguments.workers,
        cpus=arguments.cpus_per_worker,
        gpus=arguments.gpus_per_worker,
        batch=arguments.batch,
    )
    options = {name: getattr(arguments, name) for name in ("device", "backend", "tile")}
    work = cluster.plan(
        arguments.sources,
        arguments.output,
        model=model,
        recursive=arguments.recursive,
        force=arguments.force,
    )
    for problem in work.problems:
        say(problem)
    count, total = Counter(failed=len(work.problems)), len(work.rows) + len(work.outcomes)
    rows = cluster.run(work, arguments.output, model=model, workers=workers, **options)
    try:
        with (
            folder.lines_to(arguments.report) as report,
            progress("pictures", "picture") as show,
            closing(rows),
        ):
            for row in rows:
                count[row["status"]] += 1
                report(row)
                if row["status"] == "failed":
                    say(row["error"])
                if show is not None:
                    show(count.total() - len(work.problems), total)
    finally:
        say(f"{count['done']} done, {count['skipped']} skipped, {count['failed']} failed")
    return EXIT_FAILED if count["failed"] else 0


def show_demo(arguments: argparse.Namespace, model: str) -> int:
    """Open a page on this machine until Ctrl-C."""
    from srsdk import demo

    options = {
        name: getattr(arguments, name) for name in ("device", "backend", "tile", "threads", "tune")
    }
    ended = threading.Event()
    with demo.serve(model, port=arguments.port, **options) as address:
        say(f"{address} (Ctrl-C ends it)")
        # with an end, again and again: on Windows nothing interrupts any other wait
        while not ended.wait(TICK_S):
            pass
    return 0
