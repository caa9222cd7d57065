"""Exports to disks that are full or read-only."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.cli import main
from tests.disks import make_read_only, small_disk


def test_a_full_and_a_read_only_disk(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit code 1, and nothing is there."""
    for size in ("4k", "1m"):
        with small_disk(tmp_path / size, size) as disk:
            if size == "1m":
                make_read_only(disk)
            assert main([str(weights), "-o", str(disk / "toy.onnx"), "--no-verdict"]) == 1
            assert str(disk) in capsys.readouterr().err
            assert list(disk.iterdir()) == []
