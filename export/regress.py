"""Compare an export report with a baseline and list every file that got worse.

Both reports come from `python -m export --json`. A file is worse if it is missing, larger, less
faithful to its network, or loses more on a test set. Exit codes: 0 no file is worse, 1 a report
cannot be read, 3 a file is worse.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from training.usage import Parser

GROWTH = 0.05
"""Allowed growth of a file, as a share of its size."""
PARITY_DB = 0.5
"""Allowed drop of the PSNR against the float32 network."""
LOSS_DB = 0.01
"""Allowed increase of the loss on a test set."""


def main(argv: Sequence[str] | None = None) -> int:
    """Compare two reports."""
    parser = Parser(prog="python -m export.regress", description=__doc__)
    parser.add_argument("report", type=Path, metavar="REPORT.json", help="the new report")
    parser.add_argument("baseline", type=Path, metavar="BASELINE.json", help="the earlier report")
    arguments = parser.parse_args(argv)
    try:
        now, before = (_files(path) for path in (arguments.report, arguments.baseline))
        worse = [text for name in before for text in _worse(name, before[name], now.get(name))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"regress: not a report of `python -m export --json`: {error}\n")
        return 1
    sys.stdout.write("".join(f"{text}\n" for text in worse) or f"{len(before)} files, none worse\n")
    return 3 if worse else 0


def _files(path: Path) -> dict[str, dict[str, Any]]:
    report = json.loads(path.read_text(encoding="utf-8"))
    return {Path(file["file"]).name: file for file in report["files"]}


def _worse(name: str, before: dict[str, Any], now: dict[str, Any] | None) -> Iterator[str]:
    if now is None:
        yield f"{name}: missing"
        return
    if now["bytes"] > (1 + GROWTH) * before["bytes"]:
        yield f"{name}: grew from {before['bytes']:,} to {now['bytes']:,} bytes"
    was, found = (_parity_db(file) for file in (before, now))
    if found < was - PARITY_DB:
        yield f"{name}: parity fell from {was:.1f} to {found:.1f} dB"
    for test, score in before["manifest"]["scores"].items():
        lost = now["manifest"]["scores"].get(test, {}).get("loss_db", 0.0)
        if lost > score.get("loss_db", 0.0) + LOSS_DB:
            yield f"{name}: loses {lost:.3f} dB on {test}, {score.get('loss_db', 0.0):.3f} before"


def _parity_db(file: dict[str, Any]) -> float:
    """Return the parity in dB; identical pictures (None in the manifest) count as 100."""
    value = file["manifest"]["parity_db"]
    return 100.0 if value is None else min(float(value), 100.0)


if __name__ == "__main__":
    sys.exit(main())
