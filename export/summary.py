"""Print reports of `python -m export --json` as one Markdown table.

The table has one row per exported file. Milliseconds are the medians of the speed comparison on
the CPU that wrote the report, at the given input size; a dash means not timed (engines need a GPU).
The exit code is 1 if a report cannot be read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from training.usage import Parser

COLUMNS = ("model", "precision", "target", "size", "build", "parity", "INT8 loses", "CPU, ms")
TARGETS = {
    "portable": "onnx",
    "cpu": "onnx, for CPUs (U8S8)",
    "gpu": "onnx, for TensorRT (S8S8)",
    "rtx": "TensorRT for RTX",
    "tensorrt": "TensorRT",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = Parser(prog="python -m export.summary", description=__doc__)
    parser.add_argument(
        "reports", nargs="+", type=Path, metavar="REPORT.json", help="saved output of --json"
    )
    rows = []
    for path in parser.parse_args(argv).reports:
        try:
            rows += list(_rows(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, KeyError, TypeError) as error:
            sys.stderr.write(
                f"summary: {path} is not a report of `python -m export --json`: {error}\n"
            )
            return 1
    sys.stdout.write(table(rows))
    return 0


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows as a Markdown table."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rows(report: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for file in report["files"]:
        manifest, precision = file["manifest"], file["precision"]
        runs_here = file["flavour"] in ("portable", "cpu")
        target = TARGETS[file["flavour"]]
        if manifest["sms"]:
            target += f", SM {', '.join(map(str, manifest['sms']))}"
        yield (
            manifest["name"],
            precision,
            target,
            f"{file['bytes'] / 1000:,.0f} KB",
            f"{file['seconds']:.1f} s",
            _parity(file["parity"]),
            _losses(manifest["scores"]),
            (runs_here and _milliseconds(report["comparison"], precision)) or "-",
        )


def _parity(parity: dict[str, Any] | None) -> str:
    if parity is None:
        return "up to date"
    psnr = "equal" if parity["psnr_db"] is None else f"{parity['psnr_db']:.1f} dB"
    return f"{psnr}, {parity['max_lsb']} LSB"


def _losses(scores: dict[str, dict[str, float]]) -> str:
    lost = [f"{name} {s['loss_db']:.3f} dB" for name, s in scores.items() if "loss_db" in s]
    return ", ".join(lost) or "-"


def _milliseconds(comparisons: list[dict[str, Any]], precision: str) -> str:
    """Return `openvino 27.1 at 320x180, ...` for one precision; empty: not timed."""
    times = []
    for comparison in comparisons:
        if precision in comparison["ms"]:
            height, width = comparison["size_px"]
            times.append(
                f"{comparison['backend']} {comparison['ms'][precision]:.1f} at {width}x{height}"
            )
    return ", ".join(times)


if __name__ == "__main__":
    sys.exit(main())
