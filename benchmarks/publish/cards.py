"""Read what the cards of `training/weights` say of the data that the weights were learned from.

The section "Data and its terms" of a card holds a table and, in lines of their own, the models that
the weights began as or were taught by, whose data counts as theirs:

    | source | pictures | SPDX |
    |---|---|---|
    | `drawings` | 480 | Apache-2.0 |

    Began as: `gan_x4`

    Taught by: `gan_x4_quality`

The sources are those of `sources.toml` beside the cards.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.records import RecordError
from srsdk.models.terms import identifiers, is_permitted

WEIGHTS = ROOT / "training" / "weights"
SOURCES = "sources.toml"
HEAD = "| source | pictures | SPDX |\n|---|---|---|\n"
_SECTION = re.compile(r"^## Data and its terms\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_RECIPE = re.compile(r"^## Recipe\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"\| `([\w-]+)` \| ([\d,]+) \| ([^|]+) \|")
# weights of this folder by path or by name; those of a run are `RUN/weights.safetensors`
_GIVEN = re.compile(
    r"--(start-from|teacher)[ \\\n]+(?:training/weights/)?([a-z]\w*)(?:\.safetensors)?(?![\w./])"
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A set of pictures, as `sources.toml` describes it."""

    id: str
    """What cards name."""
    name: str
    """Name of the set."""
    spdx: tuple[str, ...]
    """SPDX identifiers of all licenses in it, sorted."""
    permitted: bool
    """Whether its terms permit to ship in a product what was learned from it."""
    source: str
    """Where it is published."""
    terms: str
    """The terms in words."""
    attribution: tuple[str, ...] = ()
    """Authors to name."""


@dataclass(frozen=True)
class Use:
    """A row of a card's table."""

    source: Source
    """Set of pictures."""
    pictures: int
    """How many of them."""
    spdx: tuple[str, ...]
    """SPDX identifiers of those that were used, sorted."""


@dataclass(frozen=True)
class Card:
    """What one card says of its data."""

    name: str
    """Of the model."""
    uses: tuple[Use, ...]
    """The table."""
    began_as: tuple[str, ...]
    """Models that the weights began as."""
    taught_by: tuple[str, ...]
    """Models that taught them."""
    license: str
    """Terms of the weights, the first words."""


def read_sources(folder: Path = WEIGHTS) -> dict[str, Source]:
    """Return the sources of `sources.toml` by id.

    Raises:
        RecordError: an unknown or missing key, an id twice, or a wrong SPDX identifier.
    """
    path = folder / SOURCES
    found: dict[str, Source] = {}
    for values in tomllib.loads(path.read_text(encoding="utf-8"))["source"]:
        where = f"{path.name}: source {values.get('id', '?')!r}"
        try:
            lists = {
                "spdx": identifiers(values["spdx"]),
                "attribution": tuple(values.get("attribution", ())),
            }
            source = Source(**{**values, **lists})
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"{where}: {error}") from error
        if source.id in found:
            raise RecordError(f"{where}: the id is there twice")
        if source.permitted != all(map(is_permitted, source.spdx)):
            said = str(source.permitted).lower()
            fact = "are not all" if source.permitted else "are"
            raise RecordError(
                f"{where}: permitted is {said}, but {', '.join(source.spdx)} {fact} in PERMITTED "
                "of srsdk/models/terms.py"
            )
        found[source.id] = source
    return found


def read_cards(folder: Path = WEIGHTS) -> dict[str, Card]:
    """Return all cards of a folder by the name of their model.

    Raises:
        RecordError: a card without the fixed form, or with a model or source that is not there.
    """
    sources = read_sources(folder)
    cards = {
        path.stem: read_card(path.stem, path.read_text(encoding="utf-8"), sources)
        for path in sorted(folder.glob("*.md"))
    }
    for card in cards.values():
        for name in (*card.began_as, *card.taught_by):
            if name not in cards:
                raise RecordError(f"{card.name}.md names {name}, which has no card")
    return cards


def read_card(name: str, text: str, sources: Mapping[str, Source]) -> Card:
    """Parse one card.

    Raises:
        RecordError: it lacks the fixed form, or names another source or license than there are.
    """
    where = f"{name}.md"
    section = _SECTION.search(text)
    if section is None or HEAD not in section[1]:
        raise RecordError(f"{where}: expected a section `Data and its terms` with {HEAD!r}")
    table = section[1].partition(HEAD)[2].partition("\n\n")[0].splitlines()
    if not table:
        raise RecordError(f"{where}: the table of its data is empty")
    terms = re.search(r"^Terms of the weights: ([\w.-]+\w)", section[1], re.MULTILINE)
    if terms is None:
        raise RecordError(f"{where}: expected a line `Terms of the weights: Apache-2.0`")
    card = Card(
        name,
        tuple(_use(where, line, sources) for line in table),
        _models(section[1], "Began as"),
        _models(section[1], "Taught by"),
        terms[1],
    )
    recipe = _RECIPE.search(text)
    for option, other in _GIVEN.findall(recipe[1] if recipe else ""):
        label, named = {
            "start-from": ("Began as", card.began_as),
            "teacher": ("Taught by", card.taught_by),
        }[option]
        if other not in named:
            raise RecordError(
                f"{where}: its recipe has --{option} {other}, expected a line `{label}: `{other}``"
            )
    return card


def _use(where: str, line: str, sources: Mapping[str, Source]) -> Use:
    row = _ROW.fullmatch(line.strip())
    if row is None:
        raise RecordError(f"{where}: {line!r}, expected a row such as | `gb82` | 25 | CC0-1.0 |")
    if row[1] not in sources:
        raise RecordError(f"{where}: source {row[1]!r}, expected one of {', '.join(sources)}")
    source = sources[row[1]]
    spdx = tuple(sorted(part.strip() for part in row[3].split(",")))
    if not set(spdx) <= set(source.spdx):
        raise RecordError(
            f"{where}: {source.id} is under {', '.join(spdx)}, expected some of "
            f"{', '.join(source.spdx)}, as in {SOURCES}"
        )
    return Use(source, int(row[2].replace(",", "")), spdx)


def _models(section: str, label: str) -> tuple[str, ...]:
    line = re.search(rf"^{label}: (.*)$", section, re.MULTILINE)
    return tuple(re.findall(r"`(\w+)`", line[1])) if line else ()


def ancestry(name: str, cards: Mapping[str, Card]) -> tuple[str, ...]:
    """Return a model and all that it began as or was taught by, and they in turn, nearest first."""
    found: dict[str, None] = {name: None}
    queue = [name]
    while queue:
        card = cards[queue.pop(0)]
        new = [each for each in (*card.began_as, *card.taught_by) if each not in found]
        found |= dict.fromkeys(new)
        queue += new
    return tuple(found)


def uses(name: str, cards: Mapping[str, Card]) -> tuple[Use, ...]:
    """Return the data of a model and of its ancestry, each source once with the most pictures."""
    found: dict[str, Use] = {}
    for each in ancestry(name, cards):
        for use in cards[each].uses:
            before = found.get(use.source.id, use)
            found[use.source.id] = Use(
                use.source,
                max(before.pictures, use.pictures),
                tuple(sorted({*before.spdx, *use.spdx})),
            )
    return tuple(found.values())


def training_licenses(name: str, cards: Mapping[str, Card]) -> tuple[str, ...]:
    """Return the SPDX identifiers of all data of a model and of its ancestry, sorted."""
    return identifiers(spdx for use in uses(name, cards) for spdx in use.spdx)


def is_free(name: str, cards: Mapping[str, Card]) -> bool:
    """Return whether terms permit to ship the model: its weights, and all data of its ancestry."""
    licensed = all(is_permitted(cards[each].license) for each in ancestry(name, cards))
    # a set is what sources.toml says of it as a whole, whichever part of it a card names
    return licensed and all(use.source.permitted for use in uses(name, cards))
