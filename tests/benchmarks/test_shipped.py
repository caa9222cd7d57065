"""The table of the shipped models is what their manifests say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import shipped, tables
from benchmarks.__main__ import main
from srsdk import models


def test_readme_holds_what_the_manifests_say(repository: Path) -> None:
    """Nobody wrote the table by hand, and nobody forgot to write it anew."""
    readme = (repository / "README.md").read_text(encoding="utf-8")
    text = tables.replaced(readme, shipped.published(), "README.md", begin=shipped.BEGIN)
    assert text == readme


def test_every_shipped_model_has_a_line() -> None:
    """Float32 once; its other forms are sizes and losses in that line."""
    rows = re.findall(r"^\| `(\w+)` \|", shipped.published(), re.MULTILINE)
    assert sorted(rows) == [name for name in models.shipped() if "." not in name]


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Printed, or between the marks of a file; what cannot be is one sentence."""
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
    monkeypatch.delitem(shipped.PURPOSE, "gan_x4")
    assert main(["models"]) == 1
    assert "what gan_x4 is for is not said" in capsys.readouterr().err
