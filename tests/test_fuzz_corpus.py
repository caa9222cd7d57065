"""Replay the seeds and findings of fuzzing; `python -m tests.fuzz` searches for more."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.fuzz import kept as archive
from tests.fuzz.kept import kept
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import NEEDS, TARGETS, is_possible, load


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore what the targets change, and silence their warnings."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setenv("SRSDK_CACHE", "")
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.filterwarnings("ignore")  # Pillow warns about damaged pictures
@pytest.mark.parametrize("target", TARGETS)
def test_kept_inputs(target: str) -> None:
    """Each gives a result or an srsdk error: no other error, no hang, no leftover files."""
    if not is_possible(target):
        pytest.skip(f"needs {NEEDS[target]}")
    inputs = [*seeds(target), *kept(target)]
    assert len(inputs) >= 10
    run = load(target)
    for data in inputs:
        run(data)


def test_the_kept_inputs_are_small(repository: Path) -> None:
    """There is one file per target, under 200 KB in total."""
    files = list((repository / "tests" / "fuzz" / "corpus").iterdir())
    assert {path.name for path in files} == {f"{target}.xz" for target in TARGETS}
    assert sum(path.stat().st_size for path in files) < 200_000


def test_a_file_of_inputs_keeps_to_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first inputs, which are findings, stay; the last ones are left out."""
    monkeypatch.setattr(archive, "FOLDER", tmp_path)
    inputs = [b"", b"finding", *(random.Random(seed).randbytes(1000) for seed in range(40))]
    archive.store("a", [*inputs, b"finding"])
    found = kept("a")
    assert 2 < len(found) < len(inputs)
    assert found == inputs[: len(found)]
    assert (tmp_path / "a.xz").stat().st_size <= archive.MAX_BYTES
