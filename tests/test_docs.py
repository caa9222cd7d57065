"""The Python in the docs runs, their commands parse, and their links resolve."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from srsdk.cli.main import make_parser
from tests.conftest import make_picture
from tests.srsdk.video import clips

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def examples() -> Iterator[object]:
    """Yield every Python block of the docs."""
    for page in PAGES:
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for number, block in enumerate(blocks):
            yield pytest.param(block, id=f"{page.stem}-{number}")


def commands() -> Iterator[object]:
    """Yield every `srsdk` command of the README and the docs."""
    for page in (ROOT / "README.md", *PAGES):
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"^\$ srsdk (.*?)(?:\s+#.*)?$", text, re.MULTILINE):
            yield pytest.param(line, id=f"{page.stem}-{line[:30]}")


@pytest.mark.parametrize("code", list(examples()))
def test_examples_run(code: str, tmp_path: Path) -> None:
    """Each runs in a folder with `photo.jpg` and `film.mkv`; warnings are errors."""
    Image.fromarray(make_picture(90, 120)).save(tmp_path / "photo.jpg")
    clips.make(tmp_path / "film.mkv", clips.Clip())
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    call = [sys.executable, "-W", "error", "example.py"]
    result = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("line", list(commands()))
def test_commands_parse(line: str) -> None:
    """Every documented option exists."""
    make_parser().parse_args(shlex.split(line))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_are_linked(page: Path) -> None:
    """The README or another page links to each page, and its own links resolve."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *PAGES)]
    assert any(f"{page.name})" in text for text in texts)
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
