"""Benchmark srsdk: speed, regressions between versions, and other libraries."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.compare import gate, versions
from benchmarks.compare.environments import BuildError
from benchmarks.compare.versions import CompareError
from benchmarks.gpu import check
from benchmarks.gpu.packing import pack
from benchmarks.gpu.packing.pack import PackError
from benchmarks.gpu.record import RecordError as GpuRecordError
from benchmarks.measure import flicker, peers, restoration, runs, video_peers
from benchmarks.measure.engine import inflight, layers
from benchmarks.measure.peers import PeersError
from benchmarks.measure.restoration import RestorationError
from benchmarks.measure.worker import WorkerError
from benchmarks.publish import history, models, tables, terms
from benchmarks.publish.site import gallery
from benchmarks.records import RecordError
from srsdk import SrsdkError

EXIT_FAILED = 1
EXPECTED_ERRORS = (
    *(CompareError, BuildError, PeersError, RecordError, RestorationError, WorkerError),
    *(GpuRecordError, PackError),
    SrsdkError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; exit code 0: success, 1: regression or failure, 2: usage error."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except EXPECTED_ERRORS as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return EXIT_FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    runs.add_arguments(commands.add_parser("run", help="measure srsdk in MLPerf's scenarios"))
    peers.add_arguments(commands.add_parser("peers", help="compare speed with other libraries"))
    peers.add_quality_arguments(
        commands.add_parser("quality", help="compare PSNR-Y and SSIM-Y at x4 with other libraries")
    )
    restoration.add_arguments(
        commands.add_parser("restoration", help="compare restoration by `ae` with NLM and BM3D")
    )
    video_peers.add_arguments(
        commands.add_parser("video-peers", help="compare the speed of video with other programs")
    )
    flicker.add_arguments(
        commands.add_parser("flicker", help="measure how much errors change between frames")
    )
    inflight.add_arguments(
        commands.add_parser("inflight", help="compare many pictures at once with the bare engine")
    )
    layers.add_arguments(
        commands.add_parser("layers", help="measure a network by layer, beside its floor")
    )
    versions.add_arguments(
        commands.add_parser(
            "compare", help="compare the speed of two versions; fail if one is slower"
        )
    )
    gate.add_arguments(commands.add_parser("gate", help="verify that `compare` finds a slowdown"))
    history.add_arguments(commands.add_parser("history", help="write all results to an HTML page"))
    tables.add_arguments(commands.add_parser("table", help="generate the published table of speed"))
    models.add_arguments(commands.add_parser("models", help="generate the table of shipped models"))
    terms.add_arguments(
        commands.add_parser("terms", help="generate the tables of training data and its terms")
    )
    gallery.add_arguments(
        commands.add_parser("gallery", help="generate the crops of the documentation's gallery")
    )
    check.add_arguments(
        commands.add_parser("gpu-check", help="run all tests and measurements that need a GPU")
    )
    pack.add_arguments(
        commands.add_parser(
            "gpu-pack", help="pack gpu-check for a machine that reaches no package registry"
        )
    )
    return parser
