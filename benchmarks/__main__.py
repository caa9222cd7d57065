"""`python -m benchmarks`: how fast srsdk is, whether it got slower, and what others reach."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import compare, gate, history, peer_runs, restoration, runs, shipped, tables
from benchmarks.compare import CompareError
from benchmarks.environments import BuildError
from benchmarks.gpu import check
from benchmarks.peer_runs import PeersError
from benchmarks.records import RecordError
from benchmarks.restoration import RestorationError
from benchmarks.worker import WorkerError
from srsdk import SrsdkError

EXIT_FAILED = 1
MISTAKES = (
    *(CompareError, BuildError, PeersError, RecordError, RestorationError, WorkerError),
    SrsdkError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 a regression or a failure, 2 a wrong call."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except MISTAKES as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return EXIT_FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    runs.add_arguments(commands.add_parser("run", help="time srsdk in MLPerf's scenarios"))
    peer_runs.add_arguments(commands.add_parser("peers", help="time what others offer, too"))
    peer_runs.add_quality_arguments(commands.add_parser("quality", help="score them, PSNR-Y at x4"))
    restoration.add_arguments(
        commands.add_parser("restoration", help="score `ae` beside NLM and BM3D")
    )
    compare.add_arguments(commands.add_parser("compare", help="fail where a version is slower"))
    gate.add_arguments(commands.add_parser("gate", help="show that `compare` works"))
    history.add_arguments(commands.add_parser("history", help="write all results as a page"))
    tables.add_arguments(commands.add_parser("table", help="write the README's table"))
    shipped.add_arguments(commands.add_parser("models", help="write the README's table of models"))
    check.add_arguments(commands.add_parser("gpu-check", help="everything only a GPU can prove"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
