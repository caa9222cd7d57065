"""`python -m benchmarks`: srsdk beside a bare session of the same backend, and import time."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from benchmarks.gpu import check
from benchmarks.workers import WORKERS

PAIRS = (("srsdk-openvino", "bare-openvino"), ("srsdk-onnxruntime", "bare-onnxruntime"))
IMPORTS = ("import numpy, PIL.Image", "import numpy, PIL.Image, srsdk")


@dataclass(frozen=True)
class Row:
    """One candidate, over all rounds."""

    name: str
    """The candidate."""
    ms: float
    """Median over rounds of the median latency of a round, milliseconds."""
    peak_mib: float
    """Median over rounds of the process's peak resident memory, MiB."""
    ratio: float
    """Median over rounds of this candidate's time over its partner's in the same round."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a table; `--json` also writes everything that was measured."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["gpu-check"]:
        parser = argparse.ArgumentParser(prog="python -m benchmarks gpu-check")
        check.add_arguments(parser)
        return check.run(parser.parse_args(words[1:]))
    arguments = _parser().parse_args(words)
    record = measure(
        arguments.model, arguments.height, arguments.width, arguments.rounds, arguments.runs
    )
    sys.stdout.write(table(record))
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


def measure(model: str, height: int, width: int, rounds: int, runs: int) -> dict[str, Any]:
    """Run every candidate in its own process, in shuffled order, `rounds` times.

    Two candidates in one process would disturb each other: an engine's idle threads spin.
    """
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in WORKERS}
    load_before = os.getloadavg()
    order = list(WORKERS)
    for _ in tqdm(range(rounds), unit="round"):
        random.shuffle(order)
        for name in order:
            results[name].append(_run(name, model, height, width, runs))
    return {
        "what": {"model": model, "height": height, "width": width, "rounds": rounds, "runs": runs},
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "load_before": load_before,
            "load_after": os.getloadavg(),
        },
        "date": datetime.date.today().isoformat(),
        "rows": [asdict(row) for row in _rows(results)],
        "import_ms_beyond_numpy_and_pillow": _import_ms(3 * rounds),
        "raw": results,
    }


def table(record: dict[str, Any]) -> str:
    """Return the record as a Markdown table."""
    what, machine = record["what"], record["machine"]
    lines = [
        f"{what['model']}, {what['width']}x{what['height']}, {machine['processor']}, "
        f"{machine['cores']} cores, {record['date']}:",
        "",
        "| | ms | peak memory, MiB | time over the bare session |",
        "|---|---|---|---|",
        *(
            f"| {row['name']} | {row['ms']:.1f} | {row['peak_mib']:.0f} | {row['ratio']:.3f} |"
            for row in record["rows"]
        ),
        "",
        f"`import srsdk`: {record['import_ms_beyond_numpy_and_pillow']:.0f} ms more than "
        "`import numpy, PIL`.",
    ]
    return "\n".join(lines) + "\n"


def _run(name: str, model: str, height: int, width: int, runs: int) -> dict[str, Any]:
    call = [sys.executable, "-m", "benchmarks.workers", name, model, *map(str, (height, width))]
    done = subprocess.run([*call, str(runs)], capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _rows(results: dict[str, list[dict[str, Any]]]) -> list[Row]:
    rows = []
    for pair in PAIRS:
        times = {name: [median(r["ms"]) for r in results[name]] for name in pair}
        for name in pair:
            ratios = [a / b for a, b in zip(times[name], times[pair[1]], strict=True)]
            peak = median(r["peak_bytes"] for r in results[name]) / 2**20
            rows.append(Row(name, median(times[name]), peak, median(ratios)))
    return rows


def _import_ms(times: int) -> float:
    differences = []
    for _ in range(times):
        seconds = [_seconds(code) for code in IMPORTS]
        differences.append(1000 * (seconds[1] - seconds[0]))
    return median(differences)


def _seconds(code: str) -> float:
    timed = f"import time; t = time.perf_counter(); {code}; print(time.perf_counter() - t)"
    call = [sys.executable, "-c", timed]
    return float(subprocess.run(call, capture_output=True, text=True, check=True).stdout)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--model", default="gan_x4", help="a shipped model's name or a file")
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=7, help="processes of each candidate")
    parser.add_argument("--runs", type=int, default=15, help="timed runs in each process")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all raw figures")
    return parser


if __name__ == "__main__":
    sys.exit(main())
