"""Cut, compute, lay: how one picture goes through the slots of one engine."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress

import numpy as np
from PIL import Image

from srsdk.boundary import Boundary
from srsdk.call import Call
from srsdk.engines import Engine, Slot
from srsdk.errors import BackendError, PictureError, SrsdkError, UsageError
from srsdk.manifest import Manifest
from srsdk.pool import Shape, SlotPool
from srsdk.tiles import Picture, Tile, balanced_tile, tiles

CPU_TILE_BUDGET_PX = 512 * 512
"""Largest tile that `tile="auto"` takes on a CPU: memory grows with it, overlap shrinks."""


class Pipeline:
    """One engine and its slots; pictures of any size, from any number of threads.

    Args:
        engine: an open engine; it stays the caller's.
        manifest: what the model file says of itself.
        tile_px: (height, width) of a tile, or None for the best one.
        slots: tiles in flight in each input shape.

    Raises:
        UsageError: a tile that the model cannot take.
    """

    def __init__(
        self, engine: Engine, manifest: Manifest, tile_px: tuple[int, int] | None, slots: int
    ) -> None:
        _check_tile_fits(manifest, tile_px)
        self._manifest = manifest
        self._tile_px = tile_px
        self._boundary = Boundary.of(manifest)
        self._pool = SlotPool(engine, slots)
        self._process = os.getpid()

    def upscale(self, rgb: Picture, call: Call) -> Picture:
        """(H, W, 3) uint8 RGB to (H * scale, W * scale, 3).

        Raises:
            BackendError: the backend failed, all is closed, or this process is a fork.
            concurrent.futures.CancelledError, DeadlineExceeded: see `Call`.
        """
        self.check_open()
        if self._manifest.channels == 3:
            return self._run(rgb, call)
        # a luma network: colour is of low resolution in the eye, bicubic does for it
        luma, *chroma = Image.fromarray(rgb).convert("YCbCr").split()
        large = Image.fromarray(self._run(np.asarray(luma)[:, :, None], call)[:, :, 0])
        planes = [large, *(plane.resize(large.size, Image.Resampling.BICUBIC) for plane in chroma)]
        return np.asarray(Image.merge("YCbCr", planes).convert("RGB"))

    def close(self) -> None:
        """Close idle slots now, and lent ones when they come back."""
        self._pool.close()

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it, and not one that it was forked from."""
        return os.getpid() == self._process

    def check_open(self) -> None:
        """Raise where no call can succeed.

        Raises:
            BackendError: closed, or this process is a fork of the one that opened it.
        """
        # a fork has our memory but not the threads that compute; waiting for them never ends
        if not self.is_ours:
            raise BackendError(
                f"this Upscaler belongs to process {self._process} and does not survive a fork "
                f"(this is process {os.getpid()}); open one in each process"
            )
        self._pool.check_open()

    def _run(self, picture: Picture, call: Call) -> Picture:
        """(H, W, C) to (H * scale, W * scale, C)."""
        height, width, channels = picture.shape
        scale, m = self._manifest.scale, self._manifest
        padded = _pad_to_multiple(picture, m.multiple_px)
        rows, columns = padded.shape[:2]
        tile_px = self._tile_for(rows, columns)
        cut = list(tiles(rows, columns, tile_px, m.radius_px, m.multiple_px))
        canvas = _canvas(rows * scale, columns * scale, channels)
        shape = self._boundary.input_shape(tile_px)
        with self._pool.lend(shape, len(cut), call.check) as lent:
            self._flow(cut, shape, lent, padded, canvas, call)
        return canvas[: height * scale, : width * scale]

    def _flow(
        self,
        cut: list[Tile],
        shape: Shape,
        lent: list[Slot],
        picture: Picture,
        canvas: Picture,
        call: Call,
    ) -> None:
        """Keep every slot busy; lay results in the order of submission."""
        free = deque(lent)
        flying: deque[tuple[Slot, Tile]] = deque()
        try:
            for index, tile in enumerate(cut):
                if not free:
                    free.append(self._land(flying, canvas))
                    call.report(index + 1 - len(lent), len(cut))
                call.check()
                slot = free.popleft()
                self._boundary.stage(tile.cut(picture), slot.input)
                slot.submit()
                flying.append((slot, tile))
            while flying:
                call.check()
                slot = self._land(flying, canvas)
                call.report(len(cut) - len(flying), len(cut))
                # the next picture begins while the rest of this one computes
                lent.remove(slot)
                self._pool.give_back(shape, [slot])
        finally:
            for slot, _ in flying:
                # only after a failure, which is the one to report: a slot goes back when it rests
                with suppress(SrsdkError):
                    slot.wait()

    def _land(self, flying: deque[tuple[Slot, Tile]], canvas: Picture) -> Slot:
        """Wait for the oldest tile, lay it, return its slot."""
        slot, tile = flying[0]
        scale = self._manifest.scale
        height = (tile.rows.stop - tile.rows.start) * scale
        width = (tile.columns.stop - tile.columns.start) * scale
        tile.lay(self._boundary.unstage(slot.wait(), height, width), canvas, scale)
        flying.popleft()
        return slot

    def _tile_for(self, height: int, width: int) -> tuple[int, int]:
        m = self._manifest
        if m.size_px is not None:
            return min(m.size_px[0], height), min(m.size_px[1], width)
        if self._tile_px is None:
            return balanced_tile(height, width, m.radius_px, CPU_TILE_BUDGET_PX, m.multiple_px)
        multiple = m.multiple_px
        tile_height, tile_width = (-(-side // multiple) * multiple for side in self._tile_px)
        return min(tile_height, height), min(tile_width, width)


def _check_tile_fits(manifest: Manifest, tile_px: tuple[int, int] | None) -> None:
    if tile_px is None:
        return
    if manifest.size_px not in (None, tile_px):
        raise UsageError(f"tile is {tile_px}, but {manifest.name} accepts {manifest.size_px} only")
    smallest_px = 2 * manifest.radius_px + manifest.multiple_px
    if min(tile_px) < smallest_px:
        raise UsageError(
            f"a tile of {min(tile_px)} px is too small: {manifest.name} needs "
            f"{manifest.radius_px} px of overlap on each side, so at least {smallest_px} px"
        )


def _pad_to_multiple(picture: Picture, multiple_px: int) -> Picture:
    bottom, right = (-side % multiple_px for side in picture.shape[:2])
    if not bottom and not right:
        return picture
    return np.pad(picture, ((0, bottom), (0, right), (0, 0)), mode="reflect")


def _canvas(height: int, width: int, channels: int) -> Picture:
    try:
        return np.empty((height, width, channels), np.uint8)
    except MemoryError as error:
        need = height * width * channels
        raise PictureError(
            f"the result of {height}x{width} needs {need:,} bytes of memory, which are not there"
        ) from error
