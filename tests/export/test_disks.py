"""Export to full and to read-only disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.cli import main
from tests.disks import make_read_only, small_disk


def test_a_full_and_a_read_only_disk(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each gives exit code 1 and a one-line error that names the path, and leaves no file."""
    for size in ("4k", "1m"):
        with small_disk(tmp_path / size, size) as disk:
            if size == "1m":
                make_read_only(disk)
            assert main([str(weights), "-o", str(disk / "toy.onnx"), "--no-comparison"]) == 1
            assert str(disk) in capsys.readouterr().err
            assert list(disk.iterdir()) == []
