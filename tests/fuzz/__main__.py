"""Fuzz each target in turn: `python -m tests.fuzz all --minutes 10`.

Needs atheris (`pip install atheris`; Linux, Python 3.11 to 3.13). Exit code 1: errors were found.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.kept import kept, store
from tests.fuzz.seeds import seeds, words
from tests.fuzz.targets import MAX_BYTES, TARGETS, is_possible

SHARED = Path("/dev/shm")
LIMITS = ("-timeout=20", "-rss_limit_mb=3072", "-print_final_stats=1")


def main() -> int:
    """Fuzz the targets and print a JSON report for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=("all", *TARGETS))
    parser.add_argument(
        "--minutes", type=float, default=10, help="minutes per target (default: 10)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("out/fuzz"), help="folder for corpus and findings"
    )
    parser.add_argument("--keep", action="store_true", help="only copy the corpus into tests/")
    arguments = parser.parse_args()
    names = filter(is_possible, TARGETS) if arguments.target == "all" else [arguments.target]
    found = 0
    for name in names:
        if arguments.keep:
            keep(name, arguments.work / name)
            continue
        report = fuzz(name, arguments.work / name, arguments.minutes * 60)
        found += bool(report["found"])
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()
    return 1 if found else 0


def fuzz(name: str, work: Path, seconds: float) -> dict[str, object]:
    """Fuzz one target; an input that ends the process, such as a hang, costs only that input."""
    corpus, found = work / "corpus", work / "found"
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(exist_ok=True)
    for data in [*seeds(name), *kept(name)]:
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    lines = [f'"{_escaped(word)}"' for word in words(name)]
    (work / "words").write_text("\n".join(lines) + "\n", encoding="utf-8")
    limits = (*LIMITS, f"-max_len={MAX_BYTES.get(name, 8192)}", f"-dict={work / 'words'}")
    began_s, inputs, edges = time.monotonic(), 0, 0
    while (left_s := seconds - (time.monotonic() - began_s)) >= 1:
        options = [f"-max_total_time={int(left_s)}", *limits, f"-artifact_prefix={found}/"]
        command = [sys.executable, "-m", "tests.fuzz.run", name, str(found), *options]
        start = (work / "log").stat().st_size if (work / "log").exists() else 0
        _run([*command, str(corpus)], work / "log")
        text = (work / "log").read_bytes()[start:].decode("utf-8", "replace")
        counts = re.findall(r"(?:number_of_executed_units: |#)(\d+)", text)
        inputs += int(counts[-1]) if counts else 0
        edges = max([edges, *map(int, re.findall(r"cov: (\d+)", text))])
    return {
        "target": name,
        "seconds": round(time.monotonic() - began_s),
        "inputs": inputs,
        "edges": edges,
        "corpus": len(list(corpus.iterdir())),
        "found": sorted(path.name for path in found.iterdir() if path.suffix != ".txt"),
    }


def keep(name: str, work: Path) -> None:
    """Minimize the corpus and store it in the repository: findings first, then smallest first.

    libFuzzer's merge keeps the fewest inputs that have the coverage of the whole corpus.
    """
    least = work / "least"
    shutil.rmtree(least, ignore_errors=True)
    least.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.fuzz.run", name, str(work / "found"), "-merge=1"]
    _run([*command, str(least), str(work / "corpus")], work / "log")
    found = [p.read_bytes() for p in sorted((work / "found").iterdir()) if p.suffix != ".txt"]
    store(name, [*kept(name), *found, *sorted((p.read_bytes() for p in least.iterdir()), key=len)])


def _run(command: list[str], log: Path) -> None:
    """Run a command with temporary files in memory: libFuzzer can end it before its cleanup."""
    with (
        tempfile.TemporaryDirectory(dir=SHARED if SHARED.is_dir() else None) as folder,
        log.open("ab") as stream,
    ):
        subprocess.run(command, stderr=stream, env={**os.environ, "TMPDIR": folder})


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"')


if __name__ == "__main__":
    sys.exit(main())
