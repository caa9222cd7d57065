"""`python -m benchmarks table`: the published tables, written from the result files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import plots, records
from benchmarks.machine import ROOT
from benchmarks.records import Record, RecordError

BEGIN, END = "<!-- python -m benchmarks table: begin -->", "<!-- end -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `table`."""
    parser.add_argument("results", nargs="*", type=Path, default=[records.RESULTS])
    parser.add_argument("--write", type=Path, nargs="?", const=ROOT / "README.md", metavar="FILE")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table of peers, or put it between the marks of a file (README.md).

    Raises:
        RecordError: no results of peers, or a file without marks.
    """
    found = records.read_all(arguments.results)
    text = published(found)
    if arguments.write is None:
        sys.stdout.write(text)
        return 0
    before = arguments.write.read_text(encoding="utf-8")
    arguments.write.write_text(replaced(before, text, str(arguments.write)), encoding="utf-8")
    return 0


def replaced(document: str, text: str, name: str, *, begin: str = BEGIN) -> str:
    """Put text between the marks of a document.

    Raises:
        RecordError: not exactly one pair of marks.
    """
    if document.count(begin) != 1 or END not in document.partition(begin)[2]:
        raise RecordError(f"{name}: expected one {begin} and one {END} after it")
    head, _, rest = document.partition(begin)
    return f"{head}{begin}\n{text}{END}{rest.partition(END)[2]}"


def published(found: Sequence[Record]) -> str:
    """Return what stands in the README: for each size of pictures when, where, by what, the table.

    Raises:
        RecordError: no results of peers.
    """
    rows = _peers(found)
    if not rows:
        raise RecordError("no results of peers: python -m benchmarks peers --out FILE.jsonl")
    parts = [_of_size(found, of_size) for of_size in _by_size(rows)]
    return "\n".join(parts) + startup(found)


def _of_size(found: Sequence[Record], rows: Sequence[Record]) -> str:
    c, meta = rows[-1]["config"], rows[-1]["meta"]
    return (
        f"{c['width']}x{c['height']} to {4 * c['width']}x{4 * c['height']}, uint8 array to uint8 "
        f"array, {c['threads']} threads of {meta['machine']['processor']}, "
        f"{str(meta['before']['time'])[:10]}, by `{meta['command']}` (each in its own processes, "
        f"order shuffled; medians of {c['rounds']} rounds with their 95 % interval; the ratio is "
        f"within a round):\n\n{_rows(found, rows)}"
    )


def peers(found: Sequence[Record]) -> dict[str, str]:
    """Return the newest results of all peers, fastest first: a table for each size of pictures."""
    tables = {}
    for rows in _by_size(_peers(found)):
        height, width = plots.size_of(rows[0])
        tables[f"{width}x{height} to {4 * width}x{4 * height}"] = _rows(found, rows)
    return tables


def _peers(found: Sequence[Record]) -> list[Record]:
    return [record for record in plots.latest(found) if record["kind"] == "peer"]


def _by_size(rows: Sequence[Record]) -> list[list[Record]]:
    sizes = sorted({plots.size_of(row) for row in rows})
    return [[row for row in rows if plots.size_of(row) == size] for size in sizes]


def _rows(found: Sequence[Record], rows: Sequence[Record]) -> str:
    quality = {r["config"]["peer"]: r["result"] for r in plots.scored(found)}
    lines = [
        "| | ms | time over srsdk | peak memory, MiB | PSNR-Y, dB |",
        "|---|---|---|---|---|",
    ]
    for record in sorted(rows, key=lambda r: float(r["result"]["median_ms"])):
        c, result = record["config"], record["result"]
        score = quality.get(c["peer"])
        db = "" if c["trained"] else "random weights"
        if score is not None:
            db = f"{score['psnr_y_db']:.2f}{'' if c['trained'] else ' with weights of others'}"
        title = f"**{c['title']}**" if c["peer"].startswith("srsdk") else c["title"]
        lines.append(
            f"| {title} | {result['median_ms']:.1f} ({result['low_ms']:.1f} to "
            f"{result['high_ms']:.1f}) | {result['ratio']:.2f} "
            f"| {result['peak_bytes'] / 2**20:.0f} | {db} |"
        )
    return "\n".join(lines) + "\n"


def startup(found: Sequence[Record]) -> str:
    """Return what a user waits for before the first picture; empty where it was not measured."""
    rows = [record for record in plots.latest(found) if record["kind"] == "startup"]
    imports = [r["result"]["import_ms"] for r in rows if "import_ms" in r["result"]]
    firsts = [r for r in rows if r["config"].get("workload") == "360p"]
    if not imports or not firsts:
        return ""
    lines = []
    for record in firsts:
        result = record["result"]
        seconds = (result["load_ms"] + result["first_ms"]) / 1000
        lines.append(f"`{record['config']['model']}` {seconds:.2f} s")
    return (
        f"\n`import srsdk` takes {imports[-1]:.0f} ms more than `import numpy, PIL`; opening a "
        f"model and the first picture of 640x360: {', '.join(lines)}.\n"
    )


def scenarios(found: Sequence[Record]) -> str:
    """Return the newest results of all scenarios."""
    rows = [record for record in plots.latest(found) if record["kind"] == "scenario"]
    lines = [
        "| | p50, ms | p90, ms | p99, ms | pictures/s | MP/s |",
        "|---|---|---|---|---|---|",
    ]
    for record in sorted(rows, key=_asked):
        result = record["result"]
        ms = " | ".join(f"{result[f'p{p}_ms']:.1f}" for p in (50, 90, 99))
        pixels = f"{result['mp_per_s']:.1f}" if "mp_per_s" in result else ""
        lines.append(f"| {_asked(record)} | {ms} | {result['pictures_per_s']:.2f} | {pixels} |")
    return "\n".join(lines) + "\n" if rows else ""


def comparisons(found: Sequence[Record]) -> str:
    """Return all comparisons of versions."""
    rows = [record for record in found if record["kind"] == "compare"]
    lines = ["| | time over base | interval | tolerance | slower |", "|---|---|---|---|---|"]
    for record in rows:
        c, result = record["config"], record["result"]
        ratio = result["ratio"]
        name = c.get("case") or f"{c['head']['version']} over {c['base']['version']}"
        lines.append(
            f"| {name}, {c['model']} {c['workload']} | {ratio['value']:.3f} | {ratio['low']:.3f} "
            f"to {ratio['high']:.3f} | {c['tolerance']:.0%} | {'yes' if result['slower'] else 'no'}"
            " |"
        )
    return "\n".join(lines) + "\n" if rows else ""


def _asked(record: Record) -> str:
    c = record["config"]
    return f"{c['model']} {c['workload']} {c['scenario']}"
