"""Find out whether tiles of a network give what the whole picture gives, and on which grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from srsdk.adoption.tiles.influence import (
    RADII_PX,
    Batch,
    Run,
    Side,
    measured_radius,
    noise,
    side_of,
    smallest_radius,
)

GRIDS_PX = (64, 48, 56, 44, 40, 36)
"""Grids to try; together with their divisors they hold every window of 2 to 16 px but 13 and 15,
and those of 20, 22, 24, 28, 32 px."""
SMALL_GRIDS_PX = (32, 24, 16, 8)
"""Tried too where the network's only input size is no multiple of the others, or too small."""
CORE_PX = 24
"""Side of what is compared in a tile, at least: a window of every usual size."""
MAX_EXACT_PX, MAX_ALIGNED_PX = 128, 64
"""Largest receptive field to use as it is; of larger ones the measured influence is tried first,
which ends much nearer. Each layer of window attention adds up to a window: 24 of them 100 px, with
which tiles of 512 px compute every pixel nearly three times; 16 px were measured."""
SLACK, SLACK_LSB = 1.25, 0.1
"""What a wrong grid may add to the error of tiles at least, if grids matter."""
MAX_GRID_PX = 256
"""Largest multiple that a manifest may ask for."""
ROUNDED_SHARE = 1e-3
"""Share of pixels that may differ by a level where the receptive field is known: results just
between two levels, where kernels for other sizes round differently. Windows that are not on their
grid change far more, if only by a level."""
HOPELESS_LSB = 4
"""A larger difference does not vanish with a little more overlap."""
GLOBAL_RADIUS_PX = 32
"""Overlap at which the grid of a network with global context is looked for."""

Levels = npt.NDArray[np.int16]
Structural = Callable[[int], int | None]
"""Returns the radius that the structure gives for tiles on a grid; None: beyond the probe."""


@dataclass(frozen=True)
class Reach:
    """What tiles of a network need."""

    tiling: str
    """`exact`, `aligned` or `bounded`: see `srsdk.Manifest.tiling`."""
    radius_px: int
    """Overlap; for `bounded` only where its grid was looked for."""
    is_measured: bool
    """Whether the receptive field is larger, and the radius is where its influence ends."""
    multiple_px: int
    """Tiles start at multiples of this."""

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a `Manifest` that say this."""
        return {
            "tiling": self.tiling,
            "radius_px": self.radius_px,
            "radius_measured": self.is_measured,
            "multiple_px": self.multiple_px,
        }


def find_reach(
    run: Run,
    scale: int,
    channels: int,
    *,
    multiple_px: int = 1,
    minimum_px: int = 1,
    size_px: Side | None = None,
    structural: Structural = lambda _: None,
    aligned_px: int = MAX_ALIGNED_PX,
) -> Reach:
    """Cut tiles out of a picture of noise, at different positions, and compare with the whole.

    A tile that starts 1 px from the border shows whether positions matter at all; then the
    smallest grid is looked for on which they do not. "The same" means within 1 level.

    Args:
        run: upscales (N, H, W, C) uint8.
        scale: output size over input size.
        channels: of the pictures.
        multiple_px: input sizes are multiples of this.
        minimum_px: smallest side of an input; the multiple in the result is at least as large.
        size_px: the only (height, width) that the network accepts; None: any. Its tiles are then
            compared with each other, because there is no whole picture.
        structural: computes the receptive field from the structure, if that is known.
        aligned_px: largest receptive field on a grid that is used as it is, so that tiles equal the
            whole bit for bit; of a larger one the measured influence is used.
    """
    tested = _Shifted(run, scale, channels, multiple_px, size_px)
    found = _found(tested, structural, aligned_px)
    if size_px is not None:
        return found
    grid = found.multiple_px
    return replace(found, multiple_px=-(-minimum_px // grid) * grid)


def _found(tested: _Shifted, structural: Structural, aligned_px: int) -> Reach:
    multiple_px = tested.multiple_px
    radius = structural(multiple_px)
    if radius is not None and radius <= MAX_EXACT_PX:
        # at the largest measured distance hardly anything is left of an influence
        near = min(radius, RADII_PX[-1])
        if tested.radius(1, near, ROUNDED_SHARE) == near:
            return Reach("exact", radius, False, multiple_px)
    if radius is not None and radius <= aligned_px:
        near = min(radius, RADII_PX[-1])
        on_grid = _on_grid(tested, near, structural, aligned_px)
        if on_grid is not None:
            return on_grid
    faded = tested.faded()
    if faded is not None:
        if (found := tested.radius(1, faded)) is not None:
            return Reach("exact", found, True, multiple_px)
        return _on_grid(tested, faded, lambda _: None) or tested.bounded()
    if radius is not None and tested.radius(1, radius, ROUNDED_SHARE) == radius:
        return Reach("exact", radius, False, multiple_px)
    return tested.bounded()


def _on_grid(
    tested: _Shifted, radius: int, structural: Structural, aligned_px: int = MAX_ALIGNED_PX
) -> Reach | None:
    """Return the smallest grid on which tiles give what the whole gives, or None."""
    share = ROUNDED_SHARE if structural(tested.multiple_px) is not None else 1.0
    for first in tested.grids_px:
        grid = math.lcm(first, tested.multiple_px)
        if not tested.takes(grid) or (found := tested.radius(grid, radius, share)) is None:
            continue
        while (smaller := _smaller(tested, grid, radius, share)) is not None:
            grid, found = smaller
        exact = structural(grid)
        if exact is None or exact > aligned_px:
            return Reach("aligned", found, True, grid)
        return Reach("aligned", exact, False, grid)
    return None


def _smaller(tested: _Shifted, grid: int, radius: int, share: float) -> tuple[int, int] | None:
    """Return the next smaller grid that works, with its radius."""
    for divisor in (2, 3, 5, 7, 11):
        part = grid // divisor
        if grid % divisor or part % tested.multiple_px or not tested.takes(part):
            continue
        if (found := tested.radius(part, radius, share)) is not None:
            return part, found
    return None


class _Shifted:
    """Tiles that start at a given distance from the border of a larger picture, or tile."""

    def __init__(
        self, run: Run, scale: int, channels: int, multiple_px: int, size_px: Side | None
    ) -> None:
        self.multiple_px = multiple_px
        self.grids_px = GRIDS_PX if size_px is None else (*GRIDS_PX, *SMALL_GRIDS_PX)
        self._run, self._scale, self._channels, self._size = run, scale, channels, size_px
        self._wholes: dict[Side, tuple[Batch, Levels]] = {}
        self._differences: dict[tuple[int, Side], Levels] = {}

    def faded(self) -> int | None:
        """Return the distance at which the influence of other pixels ends; None: nowhere."""
        return measured_radius(self._run, self._scale, self._channels, self.multiple_px, self._size)

    def takes(self, grid: int) -> bool:
        """Return whether tiles can start at multiples of `grid`."""
        return grid <= MAX_GRID_PX and not any(side % grid for side in self._size or ())

    def radius(self, start: int, at_least: int, share: float = 1.0) -> int | None:
        """Return the smallest radius at which a tile at `start` equals the whole; None: none.

        `share`: of the pixels that may differ by a level.
        """
        for room in (at_least, *(r for r in RADII_PX if r > at_least)):
            found = smallest_radius(partial(self._far, start, room), at_least, share)
            if found is not None:
                return found
            remaining = self._far(start, room, room)
            if not remaining.size or int(remaining.max()) > HOPELESS_LSB:
                return None
        return None

    def bounded(self) -> Reach:
        """Return the smallest grid that makes tiles no worse, for a network with global context."""
        grid = math.lcm(GRIDS_PX[0], self.multiple_px)
        if self._size is not None:
            # nothing to compare with: there is no whole
            radius = min(GLOBAL_RADIUS_PX, min(self._size) // 4)
            return Reach("bounded", radius, True, self.multiple_px)
        if grid > MAX_GRID_PX:
            return Reach("bounded", GLOBAL_RADIUS_PX, True, self.multiple_px)
        limit = SLACK * self._error(grid) + SLACK_LSB
        if self._error(1) <= limit:
            grid = self.multiple_px
        while grid % (2 * self.multiple_px) == 0 and self._error(grid // 2) <= limit:
            grid //= 2
        return Reach("bounded", GLOBAL_RADIUS_PX, True, grid)

    def _error(self, start: int) -> float:
        """Return the root mean square difference, in levels; a smaller one means little."""
        far = self._far(start, GLOBAL_RADIUS_PX, GLOBAL_RADIUS_PX).astype(np.float64)
        return float(np.sqrt(np.mean(far**2))) if far.size else 0.0

    def _far(self, start: int, room: int, radius: int) -> Levels:
        """Return the differences that are `radius` away from the tile's border."""
        difference = self._difference(start, room)
        border = radius * self._scale
        height, width = (max(border, side - border) for side in difference.shape)
        return difference[border:height, border:width]

    def _difference(self, start: int, room: int) -> Levels:
        """Return |tile - whole|, (H, W) where they overlap, of the worst channel, in levels."""
        tile, whole = self._sides(start, room)
        if (start, tile) not in self._differences:
            picture, wanted = self._whole(whole)
            cut = picture[:, start : start + tile[0], start : start + tile[1]]
            got = self._run(np.ascontiguousarray(cut)).astype(np.int16)
            at = start * self._scale
            there = wanted[:, at : at + got.shape[1], at : at + got.shape[2]]
            here = got[:, : there.shape[1], : there.shape[2]]
            self._differences[start, tile] = np.abs(here - there).max(axis=(0, 3))
        return self._differences[start, tile]

    def _sides(self, start: int, room: int) -> tuple[Side, Side]:
        """Return the (height, width) of tile and whole."""
        if self._size is not None:
            return self._size, self._size
        tile = side_of(2 * room + CORE_PX, self.multiple_px)
        whole = side_of(tile + max(start, GRIDS_PX[0]), self.multiple_px)
        return (tile, tile), (whole, whole)

    def _whole(self, side: Side) -> tuple[Batch, Levels]:
        """Return a picture that is larger than `side`, and the result of its first `side` px."""
        if side not in self._wholes:
            picture = noise(side[0] + MAX_GRID_PX, side[1] + MAX_GRID_PX, self._channels, 0)
            first = np.ascontiguousarray(picture[:, : side[0], : side[1]])
            self._wholes[side] = picture, self._run(first).astype(np.int16)
        return self._wholes[side]
