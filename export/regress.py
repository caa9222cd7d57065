"""`python -m export.regress REPORT.json BASELINE.json`: does an export fall behind an earlier one?

Both are what `python -m export --json` printed; the baseline is kept in the repository. A file that
grew, agrees less with its network, or loses more on a test set is named. Exit codes: 0 nothing is
worse, 1 a report cannot be read, 3 something is worse.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

GROWTH = 0.05
"""Share of its size that a file may grow."""
PARITY_DB = 0.5
"""By so much may the PSNR against the float32 network fall."""
LOSS_DB = 0.01
"""By so much may the loss on a test set grow."""


def main(argv: Sequence[str] | None = None) -> int:
    """Compare two reports."""
    parser = argparse.ArgumentParser(prog="python -m export.regress", description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("baseline", type=Path)
    arguments = parser.parse_args(argv)
    try:
        now, before = (_files(path) for path in (arguments.report, arguments.baseline))
        worse = [text for name in before for text in _worse(name, before[name], now.get(name))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"regress: no report of `python -m export --json`: {error}\n")
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
    """Return dB; equal pictures, of which the manifest says None, count as 100."""
    value = file["manifest"]["parity_db"]
    return 100.0 if value is None else min(float(value), 100.0)


if __name__ == "__main__":
    sys.exit(main())
