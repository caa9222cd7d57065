"""Cut the power at every point of a short Python script, for tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.powercut.disk import DATA, NAMES, Event, Loss, Say, Tree, after_cut
from tests.powercut.recording import record
from tests.powercut.strace import why_missing

_WHY = why_missing()
needs_strace = pytest.mark.skipif(bool(_WHY), reason=f"records a run with strace: {_WHY}")


def recorded(script: str, folder: Path) -> list[Event]:
    """Run a script with the path of an empty folder, the disk; return what it did."""
    disk = folder / "disk"
    disk.mkdir()
    streams = {"stdout": folder / "stdout", "stderr": folder / "stderr"}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-c", script, str(disk)]
    recording = record(words, disk, streams, environment)
    assert recording.code == 0, streams["stderr"].read_text()
    return recording.events


def every_cut(events: Sequence[Event], seeds: int = 3) -> Iterator[tuple[str, Tree]]:
    """Yield what the script had printed before each cut, and what may then be on the disk."""
    for cut in range(len(events) + 1):
        texts = [e.data for e in events[:cut] if isinstance(e, Say) and e.stream == "stdout"]
        said = b"".join(texts).decode()
        for names in NAMES:
            for data in (*DATA, "mixed"):
                for seed in range(seeds):
                    yield said, after_cut(events, cut, Loss(names, data, seed))
