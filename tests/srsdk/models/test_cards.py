"""Test what is pointed out about licenses."""

from __future__ import annotations

import pytest

from srsdk.models.cards import NO_LICENSE, license_note


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("", NO_LICENSE),
        ("  ", NO_LICENSE),
        ("MIT", ""),
        ("CC-BY-4.0", ""),
        ("CC-BY-SA-4.0", ""),
        ("GPL-3.0-only", ""),
        ("CC-BY-NC-4.0", "CC-BY-NC-4.0 forbids commercial use"),
        ("CC-BY-NC-SA-4.0", "CC-BY-NC-SA-4.0 forbids commercial use"),
        ("cc-by-nc-nd-4.0", "cc-by-nc-nd-4.0 forbids commercial use"),
        ("PolyForm-Noncommercial-1.0.0", "PolyForm-Noncommercial-1.0.0 forbids commercial use"),
        ("MIT OR CC-BY-NC-4.0", ""),
        (
            "CC-BY-NC-4.0 OR CC-BY-NC-SA-4.0",
            "CC-BY-NC-4.0 OR CC-BY-NC-SA-4.0 forbids commercial use",
        ),
    ],
)
def test_license_notes(text: str, note: str) -> None:
    """A missing license and one that forbids commercial use are said; of a choice, if all do."""
    assert license_note(text) == note
