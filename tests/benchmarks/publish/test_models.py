"""The table of shipped models matches their manifests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.publish import models as shipped
from benchmarks.publish import tables
from srsdk import models


def test_the_published_table_matches_the_manifests(repository: Path) -> None:
    """It is generated and up to date."""
    page = (repository / "docs" / "models.md").read_text(encoding="utf-8")
    text = tables.replaced(page, shipped.published(), "models.md", begin=shipped.BEGIN)
    assert text == page


def test_every_shipped_model_has_a_line() -> None:
    """Each model has one line; its other forms are sizes and losses in that line."""
    rows = re.findall(r"^\| `(\w+)` \|", shipped.published(), re.MULTILINE)
    assert sorted(rows) == [name for name in models.shipped() if "." not in name]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the table or writes it between the markers of a file; errors are one sentence."""
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    page = tmp_path / "page.md"
    page.write_text(f"above\n{shipped.BEGIN}\nold\n{tables.END}\nbelow\n", encoding="utf-8")
    assert main(["models", "--write", str(page)]) == 0
    expected = f"above\n{shipped.BEGIN}\n{text}{tables.END}\nbelow\n"
    assert page.read_text(encoding="utf-8") == expected
    page.write_text("nothing", encoding="utf-8")
    assert main(["models", "--write", str(page)]) == 1
    assert "expected one <!-- python -m benchmarks models" in capsys.readouterr().err
