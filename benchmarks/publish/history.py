"""`python -m benchmarks history`: write all results to one self-contained HTML page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from benchmarks import records
from benchmarks.measure import restoration
from benchmarks.measure.engine import inflight
from benchmarks.publish import plots, tables
from benchmarks.records import Record

PLOTS = (
    ("Latency over time", plots.latency_over_time, "Each scenario by commit."),
    (
        "Quality against time",
        plots.pareto,
        "Blue: srsdk. Hollow: quality of weights that others trained. "
        "The step line is the Pareto front.",
    ),
    ("Roofline", plots.roofline, "Measured performance under the ceilings of the machine."),
    (
        "Layers",
        plots.layer_bars,
        "Where the time of one picture goes inside a network, and the least that its operations "
        "could take.",
    ),
    ("Stages", plots.stage_bars, "Where the time of one file goes."),
)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
figure { margin: 1rem 0 } svg { max-width: 100%; height: auto }
table { border-collapse: collapse; font-size: 13px } td, th { border: 1px solid #ccc;
  padding: 2px 8px; text-align: right } td:first-child, th:first-child { text-align: left }
"""
# lets the test ask the browser how many plots are visible
SCRIPT = """
document.body.dataset.shown = [...document.querySelectorAll("figure svg")].filter(
  svg => svg.getBoundingClientRect().height > 50 && svg.querySelector("text, path")).length
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `history`."""
    parser.add_argument(
        "results",
        nargs="*",
        type=Path,
        default=[records.RESULTS],
        help="result files or folders (default: benchmarks/results)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/history.html"),
        help="page (default: out/history.html)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the page.

    Raises:
        RecordError: a line is not a valid record.
    """
    found = records.read_all(arguments.results)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = arguments.out.with_suffix(".part")
    temporary.write_text(page(found), encoding="utf-8")
    temporary.replace(arguments.out)
    sys.stdout.write(f"wrote {arguments.out}: {len(found)} results\n")
    return 0


def page(found: Sequence[Record]) -> str:
    """Return the page as HTML."""
    parts = [_figure(title, draw(found), below) for title, draw, below in PLOTS]
    parts += [
        f"<h2>{escape(title)}</h2>{_html_table(text)}"
        for title, text in (
            *((f"Peers, {size}", text) for size, text in tables.peers(found).items()),
            ("Scenarios", tables.scenarios(found)),
            ("Many pictures at once", inflight.table(found)),
            ("Comparisons", tables.comparisons(found)),
            ("Restoration at the same size", restoration.table(found)),
        )
        if text
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>srsdk: speed</title>'
        f"<style>{STYLE}</style></head><body><h1>srsdk: speed</h1><p>{escape(_source(found))}</p>"
        f"{''.join(parts)}<script>{SCRIPT}</script></body></html>\n"
    )


def _figure(title: str, svg: str | None, below: str) -> str:
    if svg is None:
        return f"<h2>{escape(title)}</h2><p>No results of this kind yet.</p>"
    caption = f"<figcaption>{escape(below)}</figcaption>"
    return f"<h2>{escape(title)}</h2><figure>{svg}{caption}</figure>"


def _source(found: Sequence[Record]) -> str:
    if not found:
        return "No results yet."
    machines = {records.machine_of(record) for record in found}
    first, last = (str(found[i]["meta"]["before"]["time"])[:10] for i in (0, -1))
    return f"{len(found)} results, {first} to {last}, on {', '.join(sorted(machines))}."


def _html_table(markdown: str) -> str:
    """Turn our own Markdown tables into HTML."""
    rows = [line.strip("|").split("|") for line in markdown.splitlines() if line.startswith("|")]
    cells = [[escape(cell.strip().strip("*")) for cell in row] for row in rows if "---" not in row]
    head = "".join(f"<th>{cell}</th>" for cell in cells[0])
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in cells[1:])
    return f"<table><tr>{head}</tr>{body}</table>"
