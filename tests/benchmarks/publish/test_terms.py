"""Cards are read in their fixed form, ancestry is followed, and the published tables match them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.publish import cards, tables, terms
from benchmarks.records import RecordError
from export.arguments import make_parser
from export.cli import _options

SOURCES = """
[[source]]
id = "free"
name = "free pictures"
spdx = ["CC-BY-4.0", "CC0-1.0"]
permitted = true
source = "somewhere"
terms = "CC"
attribution = ["A. Uthor (CC-BY-4.0)"]

[[source]]
id = "other"
name = "other pictures"
spdx = ["NOASSERTION"]
permitted = false
source = "elsewhere"
terms = "not stated"
"""


def card(rows: str, more: str = "", recipe: str = "") -> str:
    """Return the text of a card."""
    return (
        f"# x\n\n## Recipe\n\n{recipe}\n\n## Data and its terms\n\n{cards.HEAD}{rows}\n\n{more}\n\n"
        "Terms of the weights: Apache-2.0.\n\n## Scores\n\n| `no` | 1 | row |\n"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three generations, the oldest of which learned from other pictures."""
    free = "| `free` | 1,000 | CC0-1.0 |"
    (tmp_path / "sources.toml").write_text(SOURCES, encoding="utf-8")
    for name, text in {
        "alone": card(free),
        "pupil": card(free, "Began as: `alone`\n\nTaught by: `teacher`"),
        "teacher": card("| `free` | 20 | CC-BY-4.0 |", "Began as: `old`"),
        "old": card("| `other` | 3 | NOASSERTION |"),
    }.items():
        (tmp_path / f"{name}.md").write_text(text, encoding="utf-8")
    return tmp_path


def test_ancestry_is_followed(folder: Path) -> None:
    """What a model began as and was taught by, and they in turn, count as its data."""
    known = cards.read_cards(folder)
    assert cards.ancestry("pupil", known) == ("pupil", "alone", "teacher", "old")
    assert cards.training_licenses("alone", known) == ("CC0-1.0",)
    assert cards.training_licenses("pupil", known) == ("CC-BY-4.0", "CC0-1.0", "NOASSERTION")
    assert {use.source.id: use.pictures for use in cards.uses("pupil", known)} == {
        "free": 1000,
        "other": 3,
    }
    assert [name for name in known if cards.is_free(name, known)] == ["alone"]
    rows = terms.published(known, cards.read_sources(folder)).splitlines()
    assert rows[2] == "| `alone` (no file in the wheel) | `free` 1,000 |  | **yes** |"
    assert "| `alone`, `teacher`, `old` | **no** |" in rows[4]


def test_models_that_began_as_each_other(folder: Path) -> None:
    """A circle ends."""
    (folder / "old.md").write_text(
        card("| `free` | 3 | CC0-1.0 |", "Began as: `pupil`"), encoding="utf-8"
    )
    known = cards.read_cards(folder)
    assert cards.ancestry("old", known) == ("old", "pupil", "alone", "teacher")
    assert cards.is_free("old", known)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# x\n", "expected a section `Data and its terms`"),
        (card("| free | 3 | CC0-1.0 |"), "expected a row such as"),
        (card("| `free` | some | CC0-1.0 |"), "expected a row such as"),
        (card("| `none` | 3 | CC0-1.0 |"), "source 'none', expected one of free, other"),
        (card("| `free` | 3 | MIT |"), "free is under MIT, expected some of CC-BY-4.0, CC0-1.0"),
        (card(""), "the table of its data is empty"),
        (card("| `free` | 3 | CC0-1.0 |").replace("Terms of", "On"), "`Terms of the weights:"),
        (card("| `free` | 3 | CC0-1.0 |", "Began as: `lost`"), "names lost, which has no card"),
        (
            card(
                "| `free` | 3 | CC0-1.0 |", recipe="--start-from training/weights/old.safetensors"
            ),
            "its recipe has --start-from old, expected a line `Began as: `old``",
        ),
        (
            card("| `free` | 3 | CC0-1.0 |", recipe="x \\\n  --teacher old"),
            "its recipe has --teacher old, expected a line `Taught by: `old``",
        ),
    ],
)
def test_a_card_of_another_form(folder: Path, text: str, message: str) -> None:
    """The error names the card and what is expected."""
    (folder / "x.md").write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=r"x\.md") as error:
        cards.read_cards(folder)
    assert message in str(error.value)


def test_weights_of_a_run_are_no_model(folder: Path) -> None:
    """The recipe's own runs need no line."""
    recipe = "--start-from RUN/weights.safetensors\n--start-from runs/late --start-from RUN"
    (folder / "x.md").write_text(card("| `free` | 3 | CC0-1.0 |", recipe=recipe), encoding="utf-8")
    assert cards.read_cards(folder)["x"].began_as == ()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("permitted = true", "permitted = false", "permitted is false, but CC-BY-4.0, CC0-1.0 are"),
        ("permitted = false", "permitted = true", "NOASSERTION are not all in PERMITTED"),
        ('"CC-BY-4.0", "CC0-1.0"', '"CC0"', "'CC0' is not an SPDX identifier"),
        ('id = "other"', 'id = "free"', "the id is there twice"),
        ('terms = "CC"', 'color = "red"', "color"),
        ('terms = "CC"', "", "terms"),
    ],
)
def test_a_wrong_source(folder: Path, before: str, after: str, message: str) -> None:
    """The error names the source."""
    text = SOURCES.replace(before, after, 1)
    (folder / "sources.toml").write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=r"sources\.toml: source '(free|other)'") as error:
        cards.read_sources(folder)
    assert message in str(error.value)


def test_the_published_tables_match_the_cards(repository: Path) -> None:
    """They are generated and up to date."""
    page = (repository / "docs" / "licenses.md").read_text(encoding="utf-8")
    text = terms.published(cards.read_cards(), cards.read_sources())
    made = tables.replaced(page, text, "licenses.md", begin=terms.BEGIN)
    assert made == page, "python -m benchmarks terms --write writes them again"


def test_options_of_the_export(capsys: pytest.CaptureFixture[str]) -> None:
    """`--export` prints what `python -m export` takes, with the authors' names."""
    assert main(["terms", "--export", "realtime_x2"]) == 0
    words = shlex.split(capsys.readouterr().out)
    options = _options(make_parser().parse_args(["x.safetensors", "-o", "out/", *words]))
    assert options.licence == "Apache-2.0"
    assert options.training_licenses == cards.training_licenses("realtime_x2", cards.read_cards())
    assert "Jakkub Mede (CC-BY-4.0)" in options.training_data
    assert main(["terms", "--export", "none"]) == 1
    assert "no card of 'none', expected one of ae_x1" in capsys.readouterr().err


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the tables or writes them between the markers of a file."""
    assert main(["terms"]) == 0
    text = capsys.readouterr().out
    page = tmp_path / "page.md"
    page.write_text(f"above\n{terms.BEGIN}\nold\n{tables.END}\nbelow\n", encoding="utf-8")
    assert main(["terms", "--write", str(page)]) == 0
    expected = f"above\n{terms.BEGIN}\n{text}{tables.END}\nbelow\n"
    assert page.read_text(encoding="utf-8") == expected
