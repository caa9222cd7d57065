"""Fixtures of the tests of the command line: a picture, and settings that commands change."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import make_picture


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore what `--max-pixels`, `-v` and `-q` set."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    logging.getLogger("srsdk").setLevel(logging.NOTSET)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Write a small picture file."""
    path = tmp_path / "photo.png"
    Image.fromarray(make_picture(20, 30)).save(path)
    return path
