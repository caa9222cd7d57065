"""Which shipped models may be shipped in a product: cards, files and the catalog agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import srsdk
from benchmarks.publish import cards
from srsdk.manifest import read_manifest
from srsdk.models import terms

CARDS = cards.read_cards()
MODELS = [name for name in srsdk.models.shipped() if "." not in name]


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_learned_from_permitted_data(name: str) -> None:
    """So did all that it began as or was taught by."""
    not_permitted = {
        f"{use.source.id} (of {each})"
        for each in cards.ancestry(name, CARDS)
        for use in CARDS[each].uses
        if not use.source.permitted
    }
    assert not not_permitted, f"{name} learned from {', '.join(sorted(not_permitted))}"
    assert cards.is_free(name, CARDS), f"the terms of {name}'s weights do not permit shipping"


def test_each_model_has_a_card() -> None:
    """The rule reads cards; weights without a file in the wheel may have one too."""
    assert set(CARDS) >= set(MODELS)


@pytest.mark.parametrize("file", srsdk.models.shipped())
def test_a_file_agrees_with_its_card(file: str) -> None:
    """`python -m benchmarks terms --export NAME` prints what the manifest of each form states."""
    name = file.partition(".")[0]
    manifest = read_manifest(srsdk.models.find(file))
    assert manifest is not None
    fix = f"export it with the options of `python -m benchmarks terms --export {name}`"
    assert manifest.training_licenses == cards.training_licenses(name, CARDS), fix
    is_reserved = terms.OWN_TERMS in manifest.licence
    assert is_reserved != cards.is_free(name, CARDS), f"license of {file} and its card: {fix}"
    assert manifest.licence.startswith(CARDS[name].license), fix


def test_the_catalog_says_what_the_cards_say() -> None:
    """`list_models` has yes or no for each shipped model."""
    found = {model.name: model.may_be_shipped for model in srsdk.list_models()}
    for name in MODELS:
        assert found[name] is cards.is_free(name, CARDS), name


def test_the_page_lists_the_permitted_licenses(repository: Path) -> None:
    """docs/licenses.md has the identifiers of the rule, and names no other there."""
    page = (repository / "docs" / "licenses.md").read_text(encoding="utf-8")
    listed = re.search(r"SPDX identifier is one of these: (.*?)\. They", page, re.DOTALL)
    assert listed is not None
    assert re.split(r",\s+", listed[1]) == list(terms.PERMITTED)


def test_authors_are_named() -> None:
    """Each source under a license that asks for the authors' names has them."""
    for source in cards.read_sources().values():
        if any(name.startswith("CC-BY") for name in source.spdx) and source.permitted:
            assert source.attribution, source.id
