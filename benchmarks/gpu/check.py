"""`python -m benchmarks gpu-check`: run all tests and measurements that need a GPU.

Each section runs in a process of its own with a time limit. The record is written after every
section, so that a crash, a hang or the end of the machine's time loses one section at most. A
section that cannot run here (no PyTorch, no engine) is recorded as missing, with its reason.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu import catalog, children, record, report
from benchmarks.gpu.catalog import SECTIONS, TOTAL_S, Section
from benchmarks.gpu.job import Setup

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
MIN_SECONDS = 5.0
"""With less time left, a section is not begun."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gpu-check`."""
    add, default = parser.add_argument, Setup(Path("gpu-check"))
    add("--out", type=Path, default=default.out, help="output folder (default: gpu-check)")
    add(
        "--data",
        type=Path,
        default=default.data,
        metavar="DIR",
        help="test pictures, such as Set5 (default: samples)",
    )
    add(
        "--engine",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a TensorRT engine to measure, or to be refused; repeatable",
    )
    add(
        "--train-data",
        type=Path,
        metavar="DIR",
        help="pictures to train on in the time that is left (default: no training)",
    )
    add(
        "--recipe",
        type=Path,
        metavar="FILE",
        help=f"recipe of the training (default: {default.recipe.stem}, from gan_x4's weights)",
    )
    add("--start-from", type=Path, metavar="WEIGHTS", help="initial weights for --recipe")
    add("--teacher", type=Path, metavar="WEIGHTS", help="network to distill from, for --recipe")
    add("--only", metavar="NAME,...", help="run these sections only")
    add("--seconds", type=float, default=TOTAL_S, help=f"time of the run (default: {TOTAL_S:.0f})")
    add("--list", action="store_true", help="print the sections with budgets and needs, then exit")
    add(
        "--dry-run",
        action="store_true",
        help="print what could run here and what is missing, then exit; needs no GPU",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="continue the record in --out; sections that are done are skipped",
    )
    again.add_argument("--overwrite", action="store_true", help="replace the record in --out")
    parser.set_defaults(run=run)  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run the sections; exit code 1 if there is no GPU, or a section fails or is stopped."""
    try:
        sections = catalog.select(arguments.only)
    except ValueError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return EXIT_USAGE
    if arguments.list:
        _print(report.listing(sections))
        return EXIT_OK
    setup = setup_of(arguments)
    if arguments.dry_run:
        lines, ready = report.dry_run(sections, setup, children.no_gpu())
        _print(lines)
        return EXIT_OK if ready else EXIT_FAILED
    reason = children.no_gpu()
    if reason is not None:
        sys.stderr.write(f"gpu-check needs an NVIDIA GPU: {reason}\n")
        return EXIT_FAILED
    found = record.begin(setup.out, resume=arguments.resume, overwrite=arguments.overwrite)
    run_sections(sections, setup, found, arguments.seconds)
    failed = record.failures(found)
    _print([f"wrote {setup.out / record.NAME}: {len(failed)} section(s) failed",
            *(f"  {line}" for line in failed)])  # fmt: skip
    return EXIT_FAILED if failed else EXIT_OK


def setup_of(arguments: argparse.Namespace) -> Setup:
    """Return the arguments that sections use, as absolute paths."""
    default = Setup(arguments.out)
    start = arguments.start_from
    if arguments.recipe is None and start is None:
        start = default.start_from
    train = arguments.train_data
    return Setup(
        out=arguments.out.absolute(),
        data=arguments.data.absolute(),
        engines=tuple(path.absolute() for path in arguments.engine),
        train_data=train and train.absolute(),
        recipe=(arguments.recipe or default.recipe).absolute(),
        start_from=start and start.absolute(),
        teacher=arguments.teacher and arguments.teacher.absolute(),
    )


def run_sections(
    sections: tuple[Section, ...], setup: Setup, found: dict[str, Any], total_s: float
) -> None:
    """Run sections within the time, and write record and summary after each.

    Args:
        sections: what to run; those that `found` records as done are skipped.
        setup: the arguments of the command.
        found: the record; changed.
        total_s: seconds for all of them.

    Raises:
        RecordError: the record cannot be written.
    """
    began_s = time.monotonic()
    record.save(setup.out, found)
    for section in sections:
        if record.is_done(found, section.name) and not section.takes_rest:
            _print([f"{section.name}: done before"])
            continue
        left_s = total_s - (time.monotonic() - began_s)
        entry = _entry(section, setup, left_s)
        found["sections"][section.name] = entry
        found["seconds"] = round(time.monotonic() - began_s, 1)
        record.save(setup.out, found)
        report.write(setup.out, found, SECTIONS if section in SECTIONS else sections)
        reason = f": {entry['reason']}" if entry["reason"] else ""
        _print([f"{section.name}: {entry['status']} in {entry['seconds']} s{reason}"])


def _entry(section: Section, setup: Setup, left_s: float) -> dict[str, Any]:
    if left_s < MIN_SECONDS:
        return {"status": record.STOPPED, "reason": "no time was left: --resume runs it",
                "seconds": 0.0, "budget_s": 0.0, "checks": [], "found": {}}  # fmt: skip
    budget_s = left_s if section.takes_rest else min(section.budget_s, left_s)
    return children.run(section, setup, budget_s)


def _print(lines: list[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
