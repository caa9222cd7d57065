"""Whether a model may be shipped follows from the licenses that it states."""

from __future__ import annotations

import pytest

from srsdk.formats.manifest_fields import is_spdx
from srsdk.models import terms

FREE = ("CC-BY-4.0", "CC0-1.0")


@pytest.mark.parametrize(
    ("license_text", "training", "expected"),
    [
        ("Apache-2.0", FREE, True),
        ("apache-2.0", ("cc0-1.0",), True),
        ("Apache-2.0; see training_data", FREE, True),
        ("MIT OR GPL-3.0-only", FREE, True),
        ("MIT AND Apache-2.0", FREE, True),
        ("Apache-2.0", (), None),
        ("", FREE, None),
        ("", (), None),
        ("free for all", FREE, None),
        ("MIT AND GPL-3.0-only", FREE, False),
        ("CC-BY-NC-SA-4.0", FREE, False),
        ("CC-BY-NC-SA-4.0", (), False),
        ("for non-commercial use", (), False),
        ("Apache-2.0", ("CC0-1.0", "NOASSERTION"), False),
        ("Apache-2.0", ("CC-BY-SA-4.0",), False),
        ("", ("LicenseRef-BSDS500",), False),
        (f"Apache-2.0 for the weights as a work; {terms.OWN_TERMS}", FREE, False),
    ],
)
def test_the_rule(license_text: str, training: tuple[str, ...], expected: bool | None) -> None:
    """Yes if all are in the list, no if one is known not to be, else not stated."""
    assert terms.may_be_shipped(license_text, training) is expected


def test_words() -> None:
    """What the command line shows."""
    assert [terms.in_words(answer) for answer in (True, False, None)] == ["yes", "no", "not stated"]


def test_identifiers_are_sorted_and_each_is_there_once() -> None:
    """The same licenses give the same manifest."""
    texts = ["LicenseRef-Unsplash", "CC0-1.0", "CC-BY-4.0", "CC0-1.0"]
    assert terms.identifiers(texts) == ("CC-BY-4.0", "CC0-1.0", "LicenseRef-Unsplash")
    # well formed and not known here: SPDX lists hundreds
    assert terms.identifiers(["etalab-2.0", "LicenseRef-Mine"]) == ("etalab-2.0", "LicenseRef-Mine")


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("CC0", "expected CC0-1.0"),
        ("cc0-1.0", "expected CC0-1.0"),
        ("CC BY 4.0", "expected CC-BY-4.0"),
        ("CC-BY", "expected CC-BY-4.0 or"),
        ("CC-BY-4", "expected CC-BY-4.0;"),
        ("Unsplash", "expected LicenseRef-Unsplash"),
        ("Apache", "expected Apache-2.0"),
        ("CC0-1.0, CC-BY-4.0", "expected one such as CC0-1.0, or LicenseRef-NAME"),
        ("CC0-1.0 AND CC-BY-4.0", "repeat the option"),
        ("", "expected one such as"),
        ("a" * 65, "expected one such as"),
    ],
)
def test_what_is_no_identifier(text: str, fix: str) -> None:
    """The error quotes the text and names what was meant."""
    with pytest.raises(ValueError, match="is not an SPDX identifier") as error:
        terms.identifiers(["MIT", text])
    assert repr(text) in str(error.value)
    assert fix in str(error.value)


def test_the_lists_hold_identifiers() -> None:
    """Each is well formed, and in one list only."""
    names = [*terms.PERMITTED, *terms.OTHERS]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(map(is_spdx, names))
    assert terms.identifiers(names)
