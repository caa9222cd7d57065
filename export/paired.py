"""Measure how much faster one model file is than another on this CPU.

The two files alternate, each turn in its own process, so neither disturbs the other and both see
the same machine load. The result is the median of the time ratios of neighboring turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from srsdk.engines.select import choose_backend, open_engine
from srsdk.errors import SrsdkError
from training.usage import Parser

WARM_UP_RUNS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Print the median times and their ratio; with `--turn`, the milliseconds of one process."""
    arguments = _parser().parse_args(argv)
    height, width = arguments.size
    try:
        if arguments.turn:
            (file,) = arguments.files
            sys.stdout.write(json.dumps(turn(file, height, width, arguments.runs)) + "\n")
            return 0
        if len(arguments.files) != 2:
            raise SrsdkError(f"{len(arguments.files)} files, expected two, the slower one first")
        times = [
            [_turn_in_subprocess(file, arguments) for file in arguments.files]
            for _ in range(arguments.rounds)
        ]
    except SrsdkError as error:
        sys.stderr.write(f"paired: {error}\n")
        return 1
    ratios = [slow / quick for slow, quick in times]
    for index, file in enumerate(arguments.files):
        sys.stdout.write(f"{file}: {median(t[index] for t in times):.1f} ms\n")
    sys.stdout.write(
        f"{width}x{height}, {arguments.rounds} turns of {arguments.runs} runs each: the second is "
        f"{median(ratios):.2f} times as fast (median of paired ratios; "
        f"range {min(ratios):.2f} to {max(ratios):.2f})\n"
    )
    return 0


def turn(file: str, height: int, width: int, runs: int) -> float:
    """Return the median milliseconds of one file, timed in this process.

    Args:
        file: `BACKEND:PATH`.
        height: input height, pixels.
        width: input width, pixels.
        runs: number of timed runs, after a warm-up.

    Raises:
        SrsdkError: the backend does not exist or cannot open the file.
    """
    backend, _, path = file.partition(":")
    chosen = choose_backend(backend, on_gpu=False, is_engine=False)
    engine = open_engine(Path(path), chosen, threads=None)
    slot = engine.slot((1, height, width, 3))
    slot.input[...] = np.random.default_rng(0).integers(0, 256, slot.input.shape)
    milliseconds = []
    for _ in range(WARM_UP_RUNS + runs):
        began = time.perf_counter()
        slot.submit()
        slot.wait()
        milliseconds.append(1000 * (time.perf_counter() - began))
    return median(milliseconds[WARM_UP_RUNS:])


def _turn_in_subprocess(file: str, arguments: argparse.Namespace) -> float:
    height, width = arguments.size
    command = [sys.executable, "-m", "export.paired", "--turn", file]
    command += ["--size", f"{width}x{height}", "--runs", str(arguments.runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SrsdkError(done.stderr.strip().removeprefix("paired: "))
    return float(json.loads(done.stdout))


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT, such as 320x180")
    return int(height), int(width)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m export.paired", description=__doc__)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="BACKEND:FILE",
        help="two files, the slower one first, such as onnxruntime:a.onnx openvino:a.int8.onnx",
    )
    parser.add_argument(
        "--size",
        type=_size,
        default=(180, 320),
        metavar="WIDTHxHEIGHT",
        help="input size (default: 320x180)",
    )
    parser.add_argument("--rounds", type=int, default=9, help="turns of each file (default: 9)")
    parser.add_argument("--runs", type=int, default=9, help="timed runs in each turn (default: 9)")
    parser.add_argument("--turn", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
