"""Sheets of all models, for the gallery's pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.cli import main
from benchmarks.publish.site import cases, drawings, sheets

SIDE = 32


def test_a_sheet_for_each_scale(tmp_path: Path) -> None:
    """One row for each picture, two at x1; one column for each model, between input and truth."""
    text = drawings.text()[:64, :64]
    written = sheets.write({"Text": (text, (0, 0, SIDE)), "Same": (text, (16, 16, 16))}, tmp_path)
    assert [path.name for path in written] == ["x1.png", "x2.png", "x4.png"]
    for path, rows in zip(written, (4, 2, 2), strict=True):
        with Image.open(path) as sheet:
            pixels = np.asarray(sheet)
        height = SIDE + sheets.LABEL_PX + sheets.GAP_PX
        assert pixels.shape[0] == rows * height
        assert pixels.shape[1] % (SIDE + sheets.GAP_PX) == 0
        truth = pixels[sheets.LABEL_PX : sheets.LABEL_PX + SIDE, -SIDE - sheets.GAP_PX :]
        assert np.array_equal(truth[:, :SIDE], text[:SIDE, :SIDE])
        # a smaller region is magnified to the size of the others
        row = (2 if rows == 4 else 1) * height + sheets.LABEL_PX
        small = pixels[row : row + SIDE, -SIDE - sheets.GAP_PX :][:, :SIDE]
        assert np.array_equal(small[::2, ::2], text[16:32, 16:32])


def test_eight_rows() -> None:
    """The sheets show eight regions: photographs, lettering, a face and a text among them."""
    shown = [case.name for case in cases.read() if case.sheet]
    assert len(shown) == 8
    assert {"text", "sign", "face"} <= set(shown)


def test_without_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that lacks them is refused, and nothing is written."""
    out = tmp_path / "sheets"
    assert main(["gallery", "--data", str(tmp_path), "--sheets", str(out)]) == 1
    assert "no file" in capsys.readouterr().err
    assert not out.exists()
