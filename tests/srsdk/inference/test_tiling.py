"""Tiles cover a picture exactly, and kept pixels are never near a tile's own border."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from srsdk.errors import UsageError
from srsdk.inference.tiling import balanced_tile, spans, tiles

lengths = st.integers(1, 600)
halos = st.integers(0, 20)


@given(length=lengths, halo=halos, extra=st.integers(1, 90), multiple=st.sampled_from([1, 2, 4]))
def test_spans_cover_and_keep_their_distance(
    length: int, halo: int, extra: int, multiple: int
) -> None:
    """Kept parts are contiguous; inner ones are `halo` pixels away from the tile's border."""
    length += -length % multiple
    tile = 2 * halo + multiple + extra
    tile += -tile % multiple
    found = spans(length, tile, halo, multiple)
    assert found[0].keep_start == 0
    assert found[-1].keep_stop == length
    for before, after in itertools.pairwise(found):
        assert before.keep_stop == after.keep_start
    for span in found:
        assert 0 <= span.start <= span.keep_start < span.keep_stop <= span.stop <= length
        assert span.stop - span.start == min(tile, length)
        assert span.start % multiple == 0
        assert span.start == 0 or span.keep_start - span.start >= halo
        assert span.stop == length or span.stop - span.keep_stop >= halo


@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    halo=st.integers(0, 5),
    tile_height=st.integers(1, 40),
    tile_width=st.integers(1, 40),
    scale=st.integers(1, 4),
)
def test_pasted_tiles_equal_the_whole(
    height: int, width: int, halo: int, tile_height: int, tile_width: int, scale: int
) -> None:
    """Cut, upscale by nearest-neighbor, corrupt the halo, paste: equals untiled bit for bit."""
    picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    canvas = np.full((height * scale, width * scale, 3), 255, np.uint8)
    tile_px = (tile_height + 2 * halo, tile_width + 2 * halo)
    for tile in tiles(height, width, tile_px, halo):
        result = tile.cut(picture).repeat(scale, axis=0).repeat(scale, axis=1)
        border = halo * scale
        if tile.rows.start > 0:
            result[:border] = 255
        if tile.rows.stop < height:
            result[result.shape[0] - border :] = 255
        if tile.columns.start > 0:
            result[:, :border] = 255
        if tile.columns.stop < width:
            result[:, result.shape[1] - border :] = 255
        tile.paste(result, canvas, scale)
    np.testing.assert_array_equal(canvas, picture.repeat(scale, axis=0).repeat(scale, axis=1))


def test_a_tile_that_keeps_nothing_is_rejected() -> None:
    """The error names the smallest tile that works."""
    with pytest.raises(UsageError, match=r"tile of 20 px is too small.*at least 21 px"):
        spans(100, 20, 10)
    assert len(spans(100, 21, 10)) == 80


@example(height=17, width=537, halo=17, multiple=4)
@given(height=lengths, width=lengths, halo=halos, multiple=st.sampled_from([1, 4]))
def test_the_automatic_tile_stays_within_its_budget(
    height: int, width: int, halo: int, multiple: int
) -> None:
    """It covers every picture, and stays within the budget if the overlap allows it."""
    height, width = height + -height % multiple, width + -width % multiple
    budget = 64 * 64
    tile = balanced_tile(height, width, halo, budget, multiple)
    assert list(tiles(height, width, tile, halo, multiple))
    assert tile[0] <= height
    assert tile[1] <= width
    assert tile[0] % multiple == tile[1] % multiple == 0
    smallest = 2 * halo + multiple
    smallest += -smallest % multiple
    assert tile[0] * tile[1] <= max(budget, smallest**2)


def test_a_picture_within_the_budget_is_one_tile() -> None:
    """No overlap is computed where none is needed."""
    assert balanced_tile(360, 640, 10, 512 * 512) == (360, 640)


def test_the_automatic_tile_wastes_little() -> None:
    """4K in quarter-megapixel tiles computes less than 10 % extra with a halo of 10."""
    height, width = 2160, 3840
    tile_height, tile_width = balanced_tile(height, width, 10, 512 * 512)
    computed = len(list(tiles(height, width, (tile_height, tile_width), 10)))
    assert computed * tile_height * tile_width < 1.1 * height * width
