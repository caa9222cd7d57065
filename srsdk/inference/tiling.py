"""Cut a picture into equal, overlapping tiles and paste the results; pure functions, no state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from srsdk.errors import PictureError, UsageError
from srsdk.image.arrays import Array
from srsdk.inference.blocks import place


@dataclass(frozen=True, slots=True)
class Span:
    """A tile's extent along one axis, in source pixels, and the part of it that is kept."""

    start: int
    """First source pixel of the tile."""
    stop: int
    """One past its last source pixel."""
    keep_start: int
    """First source pixel whose result is kept, at least `start`."""
    keep_stop: int
    """One past the last source pixel whose result is kept, at most `stop`."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A fixed-size window of the source."""

    rows: Span
    columns: Span

    def cut(self, picture: Array) -> Array:
        """Return a view of the tile's pixels, (tile height, tile width, C)."""
        return picture[self.rows.start : self.rows.stop, self.columns.start : self.columns.stop]

    def paste(self, result: Array, canvas: Array, scale: int) -> None:
        """Copy the kept part of an upscaled tile to its position on the upscaled canvas."""
        rows, columns = self.rows, self.columns
        self._target(canvas, scale)[...] = result[
            _scaled(rows.keep_start, rows.keep_stop, rows.start, scale)
        ][:, _scaled(columns.keep_start, columns.keep_stop, columns.start, scale)]

    def paste_blocks(self, blocks: Array, canvas: Array, scale: int) -> None:
        """Like `paste`, for an upscaled tile of blocks (h, scale, w, scale, C)."""
        rows = _scaled(self.rows.keep_start, self.rows.keep_stop, self.rows.start, 1)
        columns = _scaled(self.columns.keep_start, self.columns.keep_stop, self.columns.start, 1)
        place(blocks[rows, :, columns], self._target(canvas, scale))

    def _target(self, canvas: Array, scale: int) -> Array:
        return canvas[_scaled(self.rows.keep_start, self.rows.keep_stop, 0, scale)][
            :, _scaled(self.columns.keep_start, self.columns.keep_stop, 0, scale)
        ]


def spans(length_px: int, tile_px: int, halo_px: int, multiple_px: int = 1) -> list[Span]:
    """Cover `length_px` with windows of exactly `tile_px`; cut `halo_px` off their inner borders.

    The picture's own border needs no halo: there the network sees the same pixels as untiled. The
    last window is shifted back into the picture. If `length_px` and `tile_px` are multiples of
    `multiple_px`, so is every `start`.

    Raises:
        UsageError: the tile is too small to keep any pixel.
    """
    if length_px <= tile_px:
        return [Span(0, length_px, 0, length_px)]
    core = (tile_px - 2 * halo_px) // multiple_px * multiple_px
    if core < 1:
        raise UsageError(
            f"a tile of {tile_px} px is too small: this model needs {halo_px} px of overlap on "
            f"each side, so at least {2 * halo_px + multiple_px} px"
        )
    count = math.ceil((length_px - tile_px) / core) + 1
    starts = [min(index * core, length_px - tile_px) for index in range(count)]
    edges = [0, *(start + tile_px - halo_px for start in starts[:-1]), length_px]
    return [
        Span(start, start + tile_px, edges[index], edges[index + 1])
        for index, start in enumerate(starts)
    ]


def tiles(
    height_px: int, width_px: int, tile_px: tuple[int, int], halo_px: int, multiple_px: int = 1
) -> Iterator[Tile]:
    """Yield the tiles of a picture row by row; all have the same size."""
    columns = spans(width_px, tile_px[1], halo_px, multiple_px)
    for row in spans(height_px, tile_px[0], halo_px, multiple_px):
        for column in columns:
            yield Tile(row, column)


def balanced_tile(
    height_px: int, width_px: int, halo_px: int, budget_px: int, multiple_px: int = 1
) -> tuple[int, int]:
    """Choose the tile size that computes the fewest pixels, with at most `budget_px` per tile.

    Overlap is computed twice, so a few square tiles cost least; a picture within the budget is one
    tile. Of a picture whose sides are multiples of `multiple_px`, so are those of the tile.
    """
    if height_px * width_px <= budget_px:
        return height_px, width_px
    smallest_px = -(-2 * halo_px // multiple_px) * multiple_px + multiple_px
    choices: list[tuple[bool, int, tuple[int, int]]] = []
    for rows in range(1, height_px + 1):
        tile_height = _share(height_px, rows, halo_px, multiple_px)
        widest = max(budget_px // tile_height // multiple_px * multiple_px, smallest_px)
        columns = len(spans(width_px, widest, halo_px, multiple_px))
        tile_width = min(_share(width_px, columns, halo_px, multiple_px), widest)
        cost_px = rows * tile_height * columns * tile_width
        over_budget = tile_height * tile_width > budget_px
        choices.append((over_budget, cost_px, (tile_height, tile_width)))
        if tile_height <= smallest_px:
            break
    return min(choices)[2]


def pad_to_multiple(picture: Array, multiple_px: int) -> Array:
    """Pad (H, W, C) at the bottom and right to multiples of `multiple_px` by mirroring."""
    bottom, right = (-side % multiple_px for side in picture.shape[:2])
    if not bottom and not right:
        return picture
    return np.pad(picture, ((0, bottom), (0, right), (0, 0)), mode="reflect")


def new_canvas(height: int, width: int, channels: int, dtype: np.dtype[Any]) -> Array:
    """Return an array to paste tiles into.

    Raises:
        PictureError: not enough memory.
    """
    try:
        return np.empty((height, width, channels), dtype)
    except MemoryError as error:
        need = height * width * channels * dtype.itemsize
        raise PictureError(
            f"the {height}x{width} result needs {need:,} bytes of memory, which are not available"
        ) from error


def _share(length_px: int, count: int, halo_px: int, multiple_px: int) -> int:
    """Return the smallest tile size with which `count` tiles cover `length_px`."""
    if count == 1:
        return length_px
    core_px = math.ceil((length_px - 2 * halo_px) / count)
    tile_px = math.ceil(core_px / multiple_px) * multiple_px + 2 * halo_px
    return min(length_px, math.ceil(tile_px / multiple_px) * multiple_px)


def _scaled(start: int, stop: int, origin: int, scale: int) -> slice:
    return slice((start - origin) * scale, (stop - origin) * scale)
