"""Upscale every file of any folder in a child with limits: `python -m tests.corpora DIR...`.

Pictures are upscaled into PNG, half of them (by their hash) into another format or an array too;
videos into Matroska; ONNX files are opened in each CPU backend. What is neither is tried as a
picture. Outcomes: done, refused (an `SrsdkError`), late (the call's deadline, kept), and the
findings: foreign (any other exception), slow (over its budget), left behind (files besides the
result), crashed (also at the exit after a deadline), leaked (descriptors or threads, more at each
repetition), over memory, unreadable (a result that is no picture). Exit code 1: findings, folders
that cannot be entered, or a child that does not exit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.corpora.ledger import Ledger
from tests.corpora.report import failed, summary
from tests.corpora.run import Run
from tests.corpora.worker import NotStarted, Settings

LIBRARIES_BYTES = 4 << 30
"""Address space on top of the memory of pictures: libraries, stacks, buffers of the allocator."""


def main(arguments: list[str] | None = None) -> int:
    """Try the files and print the summary."""
    options = _parser().parse_args(arguments)
    for folder in options.folders:
        if not folder.is_dir():
            sys.stderr.write(f"{folder} is no folder\n")
            return 2
    memory_bytes = options.memory_mb * 1_000_000
    address_bytes = memory_bytes + LIBRARIES_BYTES
    settings = Settings(
        options.budget_seconds, memory_bytes, address_bytes, options.model, options.calls
    )
    ledger = Ledger(options.out, again=options.again)
    with tempfile.TemporaryDirectory(prefix="srsdk-corpora-", ignore_cleanup_errors=True) as name:
        run = Run(settings, ledger, Path(name), options.jobs)
        try:
            run.execute([folder.resolve() for folder in options.folders])
        except NotStarted as error:
            sys.stderr.write(f"{error}\n")
            return 2
        finally:
            run.close()
    sys.stdout.write(summary(run.records))
    for closed in run.closed:
        sys.stdout.write(f"not entered: {closed}\n")
    for problem in run.exits:
        sys.stdout.write(f"a child did not exit cleanly: {problem}\n")
    if run.interrupted:
        sys.stderr.write("stopped; the same command with the same --out continues\n")
        return 130
    return 1 if failed(run.records) or run.closed or run.exits else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.corpora",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument(
        "--budget-seconds", type=_positive, default=20, help="time of each call (default: 20)"
    )
    parser.add_argument(
        "--memory-mb", type=int, default=1000, help="memory of each picture (default: 1000)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="children (default: 2)")
    parser.add_argument(
        "--out", type=Path, help="JSON lines; files that are in it already are skipped"
    )
    parser.add_argument("--again", action="store_true", help="try those too")
    parser.add_argument("--model", default="gan_x2", help="for pictures and videos")
    parser.add_argument(
        "--calls", default="tests.corpora.calls", help="module with the class that makes the calls"
    )
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("expected seconds above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
