"""`python -m benchmarks terms`: generate the tables of training data and its terms.

They are generated from the cards of `training/weights` and from `sources.toml` there.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.publish import cards, tables
from benchmarks.publish.cards import Card, Source
from benchmarks.records import RecordError
from srsdk import models
from srsdk.models.terms import OWN_TERMS, in_words

BEGIN = "<!-- python -m benchmarks terms: begin -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `terms`."""
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=ROOT / "docs" / "licenses.md",
        metavar="FILE",
        help="replace the tables in FILE (docs/licenses.md) instead of printing them",
    )
    action.add_argument(
        "--export",
        metavar="NAME",
        help="print the options of `python -m export` that write the terms of a model's card into "
        "its files",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the tables, or write them between the markers of a file.

    Raises:
        RecordError: a card that lacks the fixed form, an unknown model, or a file without markers.
    """
    known = cards.read_cards()
    if arguments.export is not None:
        sys.stdout.write(shlex.join(export_options(arguments.export, known)) + "\n")
        return 0
    tables.show(published(known, cards.read_sources()), arguments.write, begin=BEGIN)
    return 0


def published(known: Mapping[str, Card], sources: Mapping[str, Source]) -> str:
    """Return both tables: models, and sources."""
    ordered = sorted(known, key=lambda name: (not cards.is_free(name, known), name))
    lines = [
        "| model | learned from (pictures) | began as or was taught by | may be shipped |",
        "|---|---|---|---|",
        *(_model_row(name, known) for name in ordered),
        "",
        "| source | what | licenses of its pictures | permitted | published as | authors to name |",
        "|---|---|---|---|---|---|",
        *(_source_row(source) for source in sources.values()),
    ]
    return "\n".join(lines) + "\n"


def _model_row(name: str, known: Mapping[str, Card]) -> str:
    title = f"`{name}`" if name in models.shipped() else f"`{name}` (no file in the wheel)"
    data = ", ".join(f"`{use.source.id}` {use.pictures:,}" for use in cards.uses(name, known))
    others = ", ".join(f"`{each}`" for each in cards.ancestry(name, known)[1:])
    answer = in_words(cards.is_free(name, known))
    return f"| {title} | {data} | {others} | **{answer}** |"


def _source_row(source: Source) -> str:
    authors = "; ".join(source.attribution)
    cells = (f"`{source.id}`", source.name, f"{', '.join(source.spdx)}: {source.terms}")
    permitted = "yes" if source.permitted else "**no**"
    return f"| {' | '.join(cells)} | {permitted} | {source.source} | {authors} |"


def export_options(name: str, known: Mapping[str, Card]) -> list[str]:
    """Return the options of `python -m export` that state a model's terms as its card does.

    Raises:
        RecordError: no card of this name.
    """
    if name not in known:
        raise RecordError(f"no card of {name!r}, expected one of {', '.join(known)}")
    used = cards.uses(name, known)
    data = ", ".join(f"{use.source.name} ({use.pictures:,}: {', '.join(use.spdx)})" for use in used)
    authors = [author for use in used for author in use.source.attribution]
    thanks = f". Pictures by {', '.join(authors)}" if authors else ""
    license_text = known[name].license
    if not cards.is_free(name, known):
        license_text += f" for the weights as a work; {OWN_TERMS} (see training_data)"
    options = ["--license", license_text]
    options += ["--training-data", f"{data}{thanks}. Never Set5, Set14 or BSD100."]
    for spdx in cards.training_licenses(name, known):
        options += ["--training-license", spdx]
    return options
