"""Try every architecture of spandrel with small random weights, and write a table.

    python -m export.survey --data DATA/test/Set14 --write docs/architectures.md

Each architecture runs in a process of its own with a time limit, so that one that hangs or ends its
process is a row like the others. Finished rows are kept in --results (JSON lines): the same command
continues where it stopped, and tries again what took too long. The exit code is 1 if the folder of
pictures is unusable.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from export.survey.table import page
from training.usage import Parser

PATIENCE_S = 900.0
"""Seconds for one architecture."""
LATE = "took longer than"
"""How the problem of a row that ran out of time begins."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the survey, or one row of it."""
    arguments = _parser().parse_args(argv)
    if not arguments.data.is_dir():
        sys.stderr.write(f"survey: {arguments.data} is no folder of pictures\n")
        return 1
    if arguments.row:
        return _row(arguments.row, arguments.data, arguments.quick)
    rows = _read(arguments.results) if arguments.results.exists() else {}
    from export.survey.architectures import SMALL

    wanted = [small.name for small in SMALL if not arguments.only or small.name in arguments.only]
    missing = [name for name in wanted if name not in rows]
    if arguments.table:
        missing = []

    def run(name: str) -> None:
        sys.stderr.write(f"survey: {name}\n")
        row = _run(name, arguments.data, arguments.patience, arguments.quick)
        rows[name] = row
        with arguments.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        sys.stderr.write(f"survey: {name}: {row['exported'] or row['problem']}\n")

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(run, missing))
    text = page([rows[small.name] for small in SMALL if small.name in rows])
    if arguments.write is None:
        sys.stdout.write(text)
    else:
        arguments.write.write_text(text, encoding="utf-8")
    return 0


def _run(name: str, pictures: Path, patience_s: float, quick_s: float) -> dict[str, object]:
    """Return the row that a process of its own found, as far as it came."""
    command = [sys.executable, "-W", "ignore", "-m", "export.survey"]
    began = time.monotonic()
    ended = f"{LATE} {patience_s:.0f} s"
    try:
        done = subprocess.run(
            [*command, "--row", name, "--data", str(pictures), "--quick", str(quick_s)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=patience_s,
            check=False,
        )
        output = done.stdout
        ended = f"its process ended with code {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
    lines = [line for line in output.decode().splitlines() if line.startswith('{"name"')]
    row: dict[str, object] = json.loads(lines[-1]) if lines else _empty(name)
    if ended:
        row |= {"problem": ended, "seconds": round(time.monotonic() - began, 1)}
    return row


def _row(name: str, pictures: Path, quick_s: float) -> int:
    """Print one row after each of its steps."""
    from export.survey.architectures import SMALL
    from export.survey.row import Row, examine

    def tell(row: Row) -> None:
        sys.stdout.write(json.dumps(row.to_dict()) + "\n")
        sys.stdout.flush()

    examine(next(small for small in SMALL if small.name == name), pictures, tell, quick_s)
    return 0


def _empty(name: str) -> dict[str, object]:
    from export.survey.row import Row

    return Row(name).to_dict()


def _read(path: Path) -> dict[str, dict[str, object]]:
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["name"]] = row
        if row["problem"].startswith(LATE):
            # worth another try with more patience
            del rows[row["name"]]
    return rows


def _parser() -> Parser:
    parser = Parser(prog="python -m export.survey", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder of pictures")
    add("--write", type=Path, metavar="PAGE.md", help="write the page (default: print it)")
    add(
        "--results",
        type=Path,
        default=Path("survey.jsonl"),
        metavar="FILE",
        help="finished rows, to continue with (default: survey.jsonl)",
    )
    add("--only", action="append", default=[], metavar="NAME", help="only this one; repeatable")
    add("--table", action="store_true", help="run nothing: format the finished rows only")
    add("--jobs", type=int, default=1, help="architectures at once (default: 1)")
    add(
        "--patience",
        type=float,
        default=PATIENCE_S,
        metavar="SECONDS",
        help=f"time limit of one architecture (default: {PATIENCE_S:.0f})",
    )
    add(
        "--quick",
        type=float,
        default=math.inf,
        metavar="SECONDS",
        help="try FP16 and INT8 only where float32 took fewer (default: everywhere)",
    )
    add("--row", default="", metavar="NAME", help="print the row of one architecture as JSON")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.exit(main())
