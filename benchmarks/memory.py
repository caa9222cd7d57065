"""Measure the peak memory of upscaling a file, each target format in its own process."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import srsdk
from benchmarks import machine, records
from benchmarks.measure import worker


def main(argv: Sequence[str] | None = None) -> int:
    """Create a picture, upscale it to each target format, and print a table."""
    arguments = _parser().parse_args(argv)
    if arguments.work:
        return _work(*arguments.work)
    sys.stdout.write("| target | limit, MiB | peak, MiB | above start | seconds | bytes |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        source = Path(folder) / f"source{arguments.source}"
        _call("make", source, arguments.height, arguments.width, arguments.mode)
        for target in arguments.target or [".tiff"]:
            path = Path(folder) / f"result{target}"
            limit = arguments.max_memory_mib
            sys.stdout.write(_row(source, path, arguments.model, limit))
            sys.stdout.flush()
            path.unlink(missing_ok=True)
    return 0


def _row(source: Path, target: Path, model: str, limit_mib: int) -> str:
    """Upscale to one target format; if that fails, the row gives the reason."""
    begin = f"| {target.suffix} | {limit_mib or 'none'} |"
    try:
        found = _call("run", source, target, model, limit_mib << 20)
    except worker.WorkerError as error:
        return f"{begin} {records.not_here(str(error))} | | | |\n"
    return (
        f"{begin} {found['peak'] / 2**20:.0f} | {(found['peak'] - found['start']) / 2**20:.0f} | "
        f"{found['seconds']:.0f} | {target.stat().st_size:,} |\n"
    )


def _call(*words: object) -> dict[str, float]:
    call = [sys.executable, "-m", "benchmarks.memory", "--work", *map(str, words)]
    return worker.result_of(call)


def _work(task: str, *words: str) -> int:
    with worker.report_failures():
        if task == "make":
            _make(Path(words[0]), int(words[1]), int(words[2]), words[3])
        else:
            _run(Path(words[0]), Path(words[1]), words[2], int(words[3]))
    return 0


def _make(path: Path, height: int, width: int, mode: str) -> None:
    """Write waves of many lengths with some noise: neither flat nor incompressible."""
    random = np.random.default_rng(0)
    y, x = (np.arange(side, dtype=np.float32) for side in (height, width))
    planes = []
    for channel in range(len(mode)):
        rows, columns = np.sin((y / (20 + channel)) ** 1.2), np.sin((x / (30 + channel)) ** 1.2)
        noise = random.integers(0, 8, (height, width), dtype=np.uint8)
        waves = (rows[:, None] * columns * np.float32(120) + np.float32(124)).astype(np.uint8)
        planes.append(Image.fromarray(waves + noise))
    Image.merge(mode, planes).save(path)


def _run(source: Path, target: Path, model: str, limit_bytes: int) -> None:
    options = srsdk.PictureOptions(max_memory_bytes=limit_bytes or None)
    with srsdk.Upscaler(srsdk.models.find(model)) as up:
        up(np.zeros((8, 8, 3), np.uint8))
        start = _peak_bytes()
        began = time.perf_counter()
        up.upscale_file(source, target, options=options)
        seconds = time.perf_counter() - began
    found = {"peak": _peak_bytes(), "start": start, "seconds": seconds}
    sys.stdout.write(json.dumps(found) + "\n")


def _peak_bytes() -> int:
    peak = machine.peak_bytes()
    if peak is None:
        raise SystemExit("benchmarks: peak memory cannot be measured on Windows")
    return peak


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    add = parser.add_argument
    add("--model", default="gan_x4.int8", help="a shipped model's name or a file")
    add("--height", type=int, default=6000, help="source height in pixels (default: 6000)")
    add("--width", type=int, default=8000, help="source width in pixels (default: 8000)")
    add("--mode", choices=("RGB", "RGBA"), default="RGB", help="source mode (default: RGB)")
    add("--source", default=".png", help="file suffix of the source (default: .png)")
    add("--target", action="append", help="file suffix of a target (default: .tiff); repeatable")
    add(
        "--max-memory-mib",
        type=int,
        default=0,
        help="limit per picture (0: four fifths of free memory)",
    )
    add("--folder", type=Path, help="parent of the temporary folder; needs free disk space")
    add("--work", nargs="+", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
