"""Upscale only what changed since the frame before: equal input gives equal output.

A network sees no further than its receptive field, so a window of a frame that is equal to the same
window of the previous frame has the same result. Screen recordings, cartoons and title cards change
in a few places; in a film nearly everything changes, and whole frames are faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from srsdk.inference.global_context.cost import SEE_ALL
from srsdk.inference.tiling import Tile, tiles
from srsdk.upscaler import Upscaler

CORE_PX = 64
"""Side of the part of a window that is kept. The overlap around it is computed in addition."""
WORTH_IT = 0.7
"""Share of a frame's pixels up to which windows are computed and not the whole frame: a window has
costs of its own."""

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Job:
    """One frame that is being upscaled."""

    whole: Future[Any] | None
    """The whole frame; None: only `parts` differ from the frame before."""
    parts: tuple[tuple[Tile, Future[Any]], ...] = ()
    """Windows that changed."""

    def futures(self) -> Iterator[Future[Any]]:
        """Yield all futures of the frame."""
        if self.whole is not None:
            yield self.whole
        yield from (future for _, future in self.parts)


class Incremental:
    """Submits frames, or the windows of them that changed.

    Args:
        up: the Upscaler to use.
        height: of all frames, pixels.
        width: of all frames, pixels.
    """

    def __init__(self, up: Upscaler, height: int, width: int) -> None:
        self._up = up
        self._tiles = _windows(up, height, width)
        self._limit = int(WORTH_IT * height * width)
        self._last: Pixels | None = None
        self._canvas: Pixels | None = None
        self.computed_px = 0
        """Source pixels submitted so far, overlap included."""

    def submit(self, pixels: Pixels) -> Job:
        """Start to upscale the next frame; do not modify it afterwards."""
        last, self._last = self._last, pixels
        changed = None if last is None else self._changed(last, pixels)
        if changed is None:
            self.computed_px += pixels.shape[0] * pixels.shape[1]
            return Job(self._up.submit(pixels))
        self.computed_px += sum(map(_area_px, changed))
        return Job(None, tuple((tile, self._up.submit(tile.cut(pixels))) for tile in changed))

    def result(self, job: Job) -> Pixels:
        """Wait for a frame; call this for all frames, in the order of `submit`."""
        if job.whole is not None:
            self._canvas = job.whole.result()
        elif job.parts:
            assert self._canvas is not None
            # a copy: the encoder may still read the frame before
            canvas = self._canvas.copy()
            for tile, future in job.parts:
                tile.paste(future.result(), canvas, self._up.scale)
            self._canvas = canvas
        assert self._canvas is not None
        return self._canvas

    def _changed(self, last: Pixels, pixels: Pixels) -> list[Tile] | None:
        """Return the windows that differ; None: compute the whole frame."""
        if not self._tiles:
            return [] if np.array_equal(last, pixels) else None
        found, area_px = [], 0
        for tile in self._tiles:
            if not np.array_equal(tile.cut(last), tile.cut(pixels)):
                found.append(tile)
                area_px += _area_px(tile)
                if area_px > self._limit:
                    return None
        return found


def _windows(up: Upscaler, height: int, width: int) -> list[Tile]:
    """Return windows that cover the frame; empty: this model computes whole frames only.

    Only on a CPU, where a window has the same result whatever surrounds it; a GPU may mirror small
    pictures up to its tile.
    """
    m = up.manifest
    # a multiple, so that the last window begins on the grid too
    side_px = -(-(CORE_PX + 2 * m.radius_px) // m.multiple_px) * m.multiple_px
    fits = height % m.multiple_px == 0 and width % m.multiple_px == 0
    if up.device != "cpu" or m.size_px is not None or m.family == "foreign" or not fits:
        return []
    if m.tiling in SEE_ALL:
        return []
    if side_px > min(height, width):
        return []
    return list(tiles(height, width, (side_px, side_px), m.radius_px, m.multiple_px))


def _area_px(tile: Tile) -> int:
    return (tile.rows.stop - tile.rows.start) * (tile.columns.stop - tile.columns.start)
