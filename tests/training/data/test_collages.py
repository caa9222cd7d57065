"""Pages of cut-outs for training on drawings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.cli import main
from training.data.pictures import DataError
from training.data.synthetic import collages


def disk(path: Path, side_px: int, color: tuple[int, int, int]) -> None:
    """Write a colored disk on nothing; what is transparent has another color."""
    y, x = np.mgrid[:side_px, :side_px] - (side_px - 1) / 2
    inside = np.hypot(x, y) < side_px * 0.45
    pixels = np.full((side_px, side_px, 4), (0, 255, 0, 0), np.uint8)
    pixels[inside] = (*color, 255)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of two cut-outs, an icon, a picture without transparency and a broken one."""
    found = tmp_path / "cutouts"
    found.mkdir()
    disk(found / "red.png", 200, (255, 0, 0))
    disk(found / "blue.png", 160, (0, 0, 255))
    disk(found / "icon.png", 32, (0, 0, 0))
    Image.new("RGB", (200, 200)).save(found / "opaque.png")
    (found / "broken.png").write_bytes(b"no picture")
    return found


def test_cutouts_are_found(folder: Path) -> None:
    """Icons, opaque pictures and broken files are none."""
    assert [path.stem for path in collages.find_cutouts(folder)] == ["blue", "red"]


def test_nothing_to_cut(tmp_path: Path, folder: Path) -> None:
    """A folder without transparent pictures is refused."""
    for name in ("red.png", "blue.png"):
        (folder / name).unlink()
    with pytest.raises(DataError, match=r"no picture with transparency and sides of 128 px"):
        collages.find_cutouts(folder)
    with pytest.raises(DataError, match="no such folder"):
        collages.find_cutouts(tmp_path / "missing")


def test_a_page_is_full_of_cutouts(folder: Path) -> None:
    """The seed decides it; the hidden green of transparent pixels appears nowhere."""
    cutouts = collages.find_cutouts(folder)
    pages = [collages.collage(256, cutouts, np.random.default_rng(seed)) for seed in range(8)]
    again = collages.collage(256, cutouts, np.random.default_rng(0))
    assert np.array_equal(pages[0], again)
    assert all(page.shape == (256, 256, 3) and page.dtype == np.uint8 for page in pages)
    gray = [bool((page == page[..., :1]).all()) for page in pages]
    assert not all(gray)
    for page, is_gray in zip(pages, gray, strict=True):
        assert len(np.unique(page.reshape(-1, 3), axis=0)) > 3
        white = (page[0, 0] == 255).all() and (page[-1, -1] == 255).all()
        if white and not is_gray:
            green = page[..., 1].astype(int) - np.maximum(page[..., 0], page[..., 2])
            assert green.max() <= 8, "transparent pixels bleed into the edges"


def test_pages_by_the_command(folder: Path, tmp_path: Path) -> None:
    """`drawings --cutouts` writes pages; a folder without cut-outs writes nothing."""
    out = tmp_path / "pages"
    call = ["drawings", str(out), "--cutouts", str(folder), "--count", "2", "--px", "64"]
    assert main(call) == 0
    assert sorted(path.name for path in out.iterdir()) == ["drawing_000.png", "drawing_001.png"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["drawings", str(tmp_path / "none"), "--cutouts", str(empty)]) == 1
    assert not (tmp_path / "none").exists()
