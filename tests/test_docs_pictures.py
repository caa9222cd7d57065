"""The Python in docs/pictures.md works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import make_picture


def test_the_python_of_pictures_runs(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs as it is, one block after the other."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(make_picture(270, 480)).save(tmp_path / "photo.jpg")
    text = (repository / "docs" / "pictures.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```pycon\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {"picture": make_picture(20, 30)}
    for block in blocks:
        code = "\n".join(line[4:] for line in block.splitlines())
        exec(compile(code, "pictures.md", "exec"), names)
    with Image.open(tmp_path / "large.jpg") as large:
        assert large.width == 3840
    assert names["clean"].shape == (270, 480, 3)
    assert len(names["result"].samples) == 4
