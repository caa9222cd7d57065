"""Replay the seeds and findings of fuzzing; `python -m tests.fuzz` searches for more."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.fuzz.__main__ import kept
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore Pillow's limit, which the targets lower, and silence their warnings."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore")  # Pillow warns about damaged pictures
@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs(target: str) -> None:
    """Each gives a result or an srsdk error: no other error, no hang, no leftover files."""
    inputs = kept(target)
    assert len(inputs) >= 10
    for data in [*seeds(target), *inputs]:
        TARGETS[target](data)


def test_the_kept_inputs_are_small(repository: Path) -> None:
    """There is one archive per target, under 200 KB in total."""
    files = list((repository / "tests" / "fuzz" / "corpus").iterdir())
    assert {path.name for path in files} == {f"{target}.zip" for target in TARGETS}
    assert sum(path.stat().st_size for path in files) < 200_000
