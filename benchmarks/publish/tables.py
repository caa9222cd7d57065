"""`python -m benchmarks table`: generate the published tables from the result files."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.machine import ROOT
from benchmarks.publish import plots
from benchmarks.records import Record, RecordError, kind_of

BEGIN, END = "<!-- python -m benchmarks table: begin -->", "<!-- end -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `table`."""
    parser.add_argument(
        "results",
        nargs="*",
        type=Path,
        default=[records.RESULTS],
        help="result files or folders (default: benchmarks/results)",
    )
    parser.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=ROOT / "docs" / "performance.md",
        metavar="FILE",
        help="replace the table in FILE (docs/performance.md) instead of printing it",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table of peers, or write it between the markers of a file.

    Raises:
        RecordError: no results of peers, or a file without markers.
    """
    show(published(records.read_all(arguments.results)), arguments.write)
    return 0


def show(text: str, target: Path | None, *, begin: str = BEGIN) -> None:
    """Print a table, or write it between the markers of a file.

    Raises:
        RecordError: a file without markers.
    """
    if target is None:
        sys.stdout.write(text)
        return
    before = target.read_text(encoding="utf-8")
    target.write_text(replaced(before, text, str(target), begin=begin), encoding="utf-8")


def replaced(document: str, text: str, name: str, *, begin: str = BEGIN) -> str:
    """Replace the text between the markers of a document.

    Raises:
        RecordError: not exactly one pair of markers.
    """
    if document.count(begin) != 1 or END not in document.partition(begin)[2]:
        raise RecordError(f"{name}: expected one {begin} and one {END} after it")
    head, _, rest = document.partition(begin)
    return f"{head}{begin}\n{text}{END}{rest.partition(END)[2]}"


def published(found: Sequence[Record]) -> str:
    """Return the published text: for each picture size the date, machine, command and table.

    Raises:
        RecordError: no results of peers.
    """
    rows = _peers(found)
    if not rows:
        raise RecordError("no results of peers: python -m benchmarks peers --out FILE.jsonl")
    parts = [_of_size(found, of_size) for of_size in _by_size(rows)]
    return "\n".join(parts) + startup(found)


def _of_size(found: Sequence[Record], rows: Sequence[Record]) -> str:
    """Return caption and table of one size; each kind of processor has its own columns."""
    c = rows[-1]["config"]
    size = f"{c['width']}x{c['height']} to {4 * c['width']}x{4 * c['height']}"
    how = (
        "each in its own processes, order shuffled; medians of rounds with their 95 % interval; "
        "the ratio is within a round"
    )
    machines = [_machine([r for r in rows if kind_of(r) == kind]) for kind in records.kinds(rows)]
    if len(machines) == 1:
        where = f", {machines[0]} ({how}):"
    else:
        where = f" ({how}, on one machine):\n\n" + "\n".join(f"- {text}" for text in machines)
    return f"{size}, uint8 array to uint8 array{where}\n\n{_rows(found, rows)}"


def _machine(rows: Sequence[Record]) -> str:
    """Return the machine, date and command behind the results of one kind of processor.

    Rows that were measured again later are named with their own date and command.
    """
    by_command: dict[str, list[Record]] = {}
    for record in records.measured(rows) or rows:
        by_command.setdefault(record["meta"]["command"], []).append(record)
    most, *others = sorted(by_command.values(), key=len, reverse=True)
    last = most[-1]
    sets = ", ".join(last["meta"]["machine"].get("instruction_sets", []))
    name = f"{records.processor_of(last)} (**{kind_of(last)}**{': ' * bool(sets)}{sets})"
    again = [
        f"{' and '.join(row['config']['title'] for row in group)}: {_how(group)}"
        for group in others
    ]
    return "; ".join([f"{last['config']['threads']} threads of {name}, {_how(most)}", *again])


def _how(rows: Sequence[Record]) -> str:
    """Return date, rounds and command of results that were measured together."""
    c, meta = rows[-1]["config"], rows[-1]["meta"]
    rounds = f"{c['rounds']} round{'s' * (c['rounds'] != 1)}"
    return f"{str(meta['before']['time'])[:10]}, {rounds} by `{meta['command']}`"


def peers(found: Sequence[Record]) -> dict[str, str]:
    """Return the newest results of all peers, fastest first; one table per picture size."""
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
    """Return one row per peer, fastest first; the columns of one kind come from one machine."""
    kinds = records.kinds(rows)
    quality = {(kind_of(r), r["config"]["peer"]): r["result"] for r in plots.scored(found)}
    of_peer: dict[str, dict[str, Record]] = {}
    for record in rows:
        of_peer.setdefault(record["config"]["peer"], {})[kind_of(record)] = record
    columns = ("ms", "time over srsdk", "peak memory, MiB", "PSNR-Y, dB")
    heads = [column for kind in kinds for column in _headed(columns, kind, len(kinds))]
    lines = [f"| | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 1)]
    for name, by_kind in sorted(of_peer.items(), key=lambda item: _times(item[1], kinds)):
        title = next(iter(by_kind.values()))["config"]["title"]
        cells = [_cells(by_kind.get(kind), quality.get((kind, name))) for kind in kinds]
        title = f"**{title}**" if name.startswith("srsdk") else title
        lines.append(f"| {title} | {' | '.join(cell for group in cells for cell in group)} |")
    return "\n".join(lines) + "\n"


def _headed(columns: Sequence[str], kind: str, kinds: int) -> list[str]:
    """Add the kind to the first of its columns, if there are several kinds."""
    return [f"{kind}: {columns[0]}" if kinds > 1 else columns[0], *columns[1:]]


def _times(by_kind: dict[str, Record], kinds: Sequence[str]) -> list[float]:
    """Return the times that a peer is sorted by; peers without times come last."""
    results = [by_kind[kind]["result"] if kind in by_kind else {} for kind in kinds]
    return [float(result.get("median_ms", math.inf)) for result in results]


def _cells(record: Record | None, score: dict[str, Any] | None) -> list[str]:
    """Return the four cells of one peer on one kind of processor."""
    if record is None:
        return [""] * 4
    c, result, lack = record["config"], record["result"], records.missing(record)
    if lack is not None:
        return [records.not_here(lack).replace("|", "\\|"), "", "", ""]
    db = "" if c["trained"] else "random weights"
    if score is not None:
        db = f"{score['psnr_y_db']:.2f}{'' if c['trained'] else ' with weights of others'}"
    return [
        f"{result['median_ms']:.1f} ({result['low_ms']:.1f} to {result['high_ms']:.1f})",
        "" if result["ratio"] is None else f"{result['ratio']:.2f}",
        "" if result["peak_bytes"] is None else f"{result['peak_bytes'] / 2**20:.0f}",
        db,
    ]


def startup(found: Sequence[Record]) -> str:
    """Return the startup times before the first picture, by kind of processor.

    Empty if they were not measured.
    """
    rows = [r for r in records.measured(plots.latest(found)) if r["kind"] == "startup"]
    kinds = records.kinds(rows)
    parts = [_startup([r for r in rows if kind_of(r) == kind]) for kind in kinds]
    where = [f"{kind}: " if len(kinds) > 1 else "" for kind in kinds]
    return "".join(f"\n{a}{b}\n" for a, b in zip(where, parts, strict=True) if b)


def _startup(rows: Sequence[Record]) -> str:
    imports = [r["result"]["import_ms"] for r in rows if "import_ms" in r["result"]]
    firsts = [r for r in rows if r["config"].get("workload") == "360p"]
    if not imports or not firsts:
        return ""
    seconds = []
    for record in firsts:
        result = record["result"]
        total = (result["load_ms"] + result["first_ms"]) / 1000
        seconds.append(f"`{record['config']['model']}` {total:.2f} s")
    return (
        f"`import srsdk` takes {imports[-1]:.0f} ms more than `import numpy, PIL`; opening a "
        f"model and the first picture of 640x360: {', '.join(seconds)}."
    )


def scenarios(found: Sequence[Record]) -> str:
    """Return the newest results of all scenarios."""
    rows = [record for record in plots.latest(found) if record["kind"] == "scenario"]
    lines = [
        "| | processor | p50, ms | p90, ms | p99, ms | pictures/s | MP/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in sorted(rows, key=lambda r: (_asked(r), kind_of(r))):
        begin, result = f"| {_asked(record)} | {kind_of(record)} |", record["result"]
        lack = records.missing(record)
        if lack is not None:
            lines.append(f"{begin} {records.not_here(lack)} | | | | |")
            continue
        ms = " | ".join(f"{result[f'p{p}_ms']:.1f}" for p in (50, 90, 99))
        pixels = f"{result['mp_per_s']:.1f}" if "mp_per_s" in result else ""
        lines.append(f"{begin} {ms} | {result['pictures_per_s']:.2f} | {pixels} |")
    return "\n".join(lines) + "\n" if rows else ""


def comparisons(found: Sequence[Record]) -> str:
    """Return all comparisons of versions."""
    rows = [record for record in found if record["kind"] == "compare"]
    lines = [
        "| | processor | time over base | interval | tolerance | slower |",
        "|---|---|---|---|---|---|",
    ]
    for record in rows:
        c, result = record["config"], record["result"]
        ratio = result["ratio"]
        name = c.get("case") or f"{c['head']['version']} over {c['base']['version']}"
        cells = (
            f"{name}, {c['model']} {c['workload']}",
            kind_of(record),
            f"{ratio['value']:.3f}",
            f"{ratio['low']:.3f} to {ratio['high']:.3f}",
            f"{c['tolerance']:.0%}",
            "yes" if result["slower"] else "no",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" if rows else ""


def _asked(record: Record) -> str:
    c = record["config"]
    return f"{c['model']} {c['workload']} {c['scenario']}"
