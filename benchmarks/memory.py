"""`python -m benchmarks.memory`: peak memory of upscaling files, each in its own process."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import srsdk


def main(argv: Sequence[str] | None = None) -> int:
    """Make a picture, upscale it into each target, print a table."""
    arguments = _parser().parse_args(argv)
    if arguments.work:
        return _work(*arguments.work)
    sys.stdout.write("| target | limit, MiB | peak, MiB | beyond start | seconds | bytes |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        source = Path(folder) / f"source{arguments.source}"
        _call("make", source, arguments.height, arguments.width, arguments.mode)
        for target in arguments.target or [".tiff"]:
            path = Path(folder) / f"result{target}"
            limit = arguments.max_memory_mib
            found = _call("run", source, path, arguments.model, limit << 20)
            sys.stdout.write(
                f"| {target} | {limit or 'none'} | {found['peak'] / 2**20:.0f} | "
                f"{(found['peak'] - found['start']) / 2**20:.0f} | {found['seconds']:.0f} | "
                f"{path.stat().st_size:,} |\n"
            )
            sys.stdout.flush()
            path.unlink()
    return 0


def _call(*words: object) -> dict[str, float]:
    call = [sys.executable, "-m", "benchmarks.memory", "--work", *map(str, words)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout or "{}")
    return result


def _work(task: str, *words: str) -> int:
    if task == "make":
        _make(Path(words[0]), int(words[1]), int(words[2]), words[3])
    else:
        _run(Path(words[0]), Path(words[1]), words[2], int(words[3]))
    return 0


def _make(path: Path, height: int, width: int, mode: str) -> None:
    """Write waves of all lengths with a little noise: neither flat nor incompressible."""
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
    with srsdk.Upscaler(model) as up:
        up(np.zeros((8, 8, 3), np.uint8))
        start = _peak_bytes()
        began = time.perf_counter()
        up.upscale_file(source, target, options=options)
        seconds = time.perf_counter() - began
    found = {"peak": _peak_bytes(), "start": start, "seconds": seconds}
    sys.stdout.write(json.dumps(found) + "\n")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    add = parser.add_argument
    add("--model", default="gan_x4.int8", help="a shipped model's name or a file")
    add("--height", type=int, default=6000)
    add("--width", type=int, default=8000)
    add("--mode", choices=("RGB", "RGBA"), default="RGB")
    add("--source", default=".png", help="suffix of the source (.png)")
    add("--target", action="append", help="suffix of a target; several (.tiff)")
    add("--max-memory-mib", type=int, default=0, help="what a picture may take (0: as it is)")
    add("--folder", type=Path, help="where the files lie meanwhile; a disk with room")
    add("--work", nargs="+", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
