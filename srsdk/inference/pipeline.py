"""Run a picture through an engine: cut tiles, compute them in slots, paste the results."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from srsdk.engines.protocol import Engine, Slot, ValuesSlot
from srsdk.errors import BackendError, OutOfMemoryError, PictureError
from srsdk.image import luma
from srsdk.image.arrays import WHITE, Array, levels_of
from srsdk.inference import deadline
from srsdk.inference.blocks import has_blocks
from srsdk.inference.noise import Sample
from srsdk.inference.output_checks import Guard
from srsdk.inference.planner import Choice, MemoryPlan, Planner
from srsdk.inference.precision import Float32Form
from srsdk.inference.profiling import Profiler, Stopwatch
from srsdk.inference.slot_pool import SlotPool
from srsdk.inference.tensor_io import Boundary, values_of
from srsdk.inference.tiling import Tile, new_canvas, pad_to_multiple, tiles
from srsdk.manifest import Manifest
from srsdk.scheduling.context import Call

Group = list[tuple[int, Tile]]
"""Numbered tiles that are computed as one batch."""
WITH_ALPHA = 4
"""Channels of a network that enlarges color and alpha together."""


class Pipeline:
    """Upscales pictures of any size with one engine, from any number of threads.

    Args:
        engine: an open engine; the caller closes it.
        manifest: the model file's manifest.
        planner: chooses the tiles.
        slots: batches of tiles in flight for each input shape; None: as many as the engine wants.
        deep: the model's form for pictures with more than 8 bits; None: there is none.
        health: compare some tiles with bicubic.
    """

    def __init__(
        self,
        engine: Engine,
        manifest: Manifest,
        planner: Planner,
        slots: int | None,
        *,
        deep: Float32Form | None = None,
        health: bool = True,
    ) -> None:
        self._deep = deep
        self._engine = engine
        self._manifest = manifest
        self._planner = planner
        self._on_gpu: Any = None
        self._boundary = Boundary.of(manifest)
        self._pool = SlotPool(engine, slots)
        self._guard = Guard(manifest, f"{engine.backend} on {engine.device}") if health else None
        self.profiler = Profiler()
        self._process = os.getpid()

    def upscale_on_gpu(self, picture: Any, out: Any, stream: Any, call: Call) -> Any:
        """Upscale an array in GPU memory; see `DevicePipeline.upscale`."""
        from srsdk.inference.device_pipeline import DevicePipeline

        self.check_open()
        if self._on_gpu is None:
            planner, pool = self._planner, self._pool
            made = DevicePipeline(self._engine, self._manifest, planner, pool, self._guard)
            self._on_gpu = made
        return self._on_gpu.upscale(picture, out, stream, call)

    def upscale(
        self, rgb: Array, call: Call, out: Any = None, sample: Sample | None = None
    ) -> Array:
        """Upscale (H, W, 3) RGB to (H * scale, W * scale, 3) of its dtype, into `out` if given.

        A network with one channel also takes (H, W, 1), and returns one channel; one with four
        takes (H, W, 4), color and alpha, and returns four.

        Raises:
            PictureError: floats that are not finite, or an `out` that does not fit.
            BackendError: the backend failed, the pipeline is closed, or this process is a fork.
            concurrent.futures.CancelledError, DeadlineExceeded: see `Call`.
        """
        self.check_open()
        _check_finite(rgb)
        if out is not None:
            _check_out(out, rgb, self._manifest.scale)
        if self._manifest.channels == rgb.shape[2]:
            return self._run(rgb, call, out, sample)
        if self._manifest.channels == WITH_ALPHA:
            return _copied_or_new(self._run(_opaque(rgb), call)[..., :3], out)
        result = luma.upscale(lambda plane: self._run(plane, call), rgb)
        return _copied_or_new(result, out)

    def count(self, height: int, width: int) -> int:
        """Return the number of tiles of a (height, width) picture."""
        return self._planner.count(height, width)

    def plan(self, height: int, width: int) -> MemoryPlan:
        """Plan the tiles and memory of a (height, width) picture."""
        return self._planner.plan(height, width, self._pool.limit)

    def close(self) -> None:
        """Close idle slots now, and lent slots when they are returned."""
        if self._deep is not None:
            self._deep.close()
        self._pool.close()

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it, rather than a parent process before a fork."""
        return os.getpid() == self._process

    def check_open(self) -> None:
        """Check that calls can succeed.

        Raises:
            BackendError: closed, or this process is a fork of the one that opened it.
        """
        # a fork has a copy of the memory but not the compute threads; waiting for them never ends
        if not self.is_ours:
            raise BackendError(
                f"this Upscaler belongs to process {self._process} and does not survive a fork "
                f"(this is process {os.getpid()}); open one in each process"
            )
        self._pool.check_open()

    def _pool_for(self, dtype: np.dtype[Any]) -> tuple[Boundary, SlotPool]:
        if dtype == np.uint8 or self._boundary.is_float or self._deep is None:
            return self._boundary, self._pool
        return self._deep.get()

    def _run(
        self, picture: Array, call: Call, out: Array | None = None, sample: Sample | None = None
    ) -> Array:
        """Upscale (H, W, C) to (H * scale, W * scale, C)."""
        height, width, _ = picture.shape
        scale = self._manifest.scale
        padded = pad_to_multiple(picture, self._manifest.multiple_px)
        rows, columns, _ = padded.shape
        watch = self.profiler.start()
        choice = self._planner.choose(rows, columns)
        try:
            canvas = self._tiled(padded, choice, call, watch, out, sample)
        except OutOfMemoryError as error:
            self._pool.drop_idle()
            choice = self._planner.choose_smaller(choice, rows, columns, error)
            canvas = self._tiled(padded, choice, call, watch, out, sample)
        self.profiler.finish(watch)
        if out is None:
            return canvas[: height * scale, : width * scale]
        return out if canvas is out else _copied(canvas[: height * scale, : width * scale], out)

    def _tiled(
        self, picture: Array, choice: Choice, call: Call, watch: Stopwatch, out: Array | None,
        sample: Sample | None,
    ) -> Array:  # fmt: skip
        rows, columns, channels = picture.shape
        m, size = self._manifest, choice.batch
        cut = list(enumerate(tiles(rows, columns, choice.tile_px, m.radius_px, m.multiple_px)))
        groups = [cut[at : at + size] for at in range(0, len(cut), size)]
        shape = (rows * m.scale, columns * m.scale, channels)
        fits = out is not None and out.shape == shape
        canvas = out if out is not None and fits else new_canvas(*shape, picture.dtype)
        boundary, pool = self._pool_for(picture.dtype)
        run = _TiledRun(boundary, self._guard, m.scale, picture, canvas, watch, sample)
        run.values = values_of(m, call.inputs)
        release = partial(pool.release, choice.input_shape)
        with ExitStack() as queue:
            queue.enter_context(watch.step("queue"))
            with pool.lend(choice.input_shape, len(groups), call.check) as lent:
                queue.close()
                watch.prepare(lent)
                run.run(groups, lent, release, call)
        return canvas


class _TiledRun:
    """Runs the tiles of one picture through the slots lent to it."""

    def __init__(
        self, boundary: Boundary, guard: Guard | None, scale: int, picture: Array,
        canvas: Array, watch: Stopwatch, sample: Sample | None,
    ) -> None:  # fmt: skip
        self._sample = sample
        self.values: npt.NDArray[np.float32] | None = None
        """For the network's further input; None: it has none."""
        self._boundary, self._guard, self._scale = boundary, guard, scale
        self._picture, self._canvas, self._watch = picture, canvas, watch
        self._in_flight: deque[tuple[Slot, Group]] = deque()
        self._done = 0

    def run(
        self,
        groups: list[Group],
        lent: deque[Slot],
        release: Callable[[deque[Slot], Slot], None],
        call: Call,
    ) -> None:
        """Keep every slot busy, and paste results in the order of submission."""
        self._lent, self._release, self._call = lent, release, call
        free = deque(lent)
        total = sum(map(len, groups))
        try:
            for group in groups:
                if not free:
                    free.append(self._finish_oldest())
                    call.report(self._done, total)
                call.check()
                self._submit(free.popleft(), group)
            while self._in_flight:
                call.check()
                slot = self._finish_oldest()
                call.report(self._done, total)
                # the next picture can start while the rest of this one computes
                release(lent, slot)
        finally:
            # only after a failure, which is reported: a slot must be idle before its return
            while self._in_flight:
                slot = self._in_flight[0][0]
                deadline.settle(slot, call, partial(self._leave, slot))
                self._forget(slot)

    def _forget(self, slot: Slot) -> None:
        self._in_flight = deque(each for each in self._in_flight if each[0] is not slot)

    def _wait(self, slot: Slot) -> npt.NDArray[Any]:
        return deadline.wait(slot, self._call, partial(self._leave, slot))

    def _leave(self, slot: Slot, output: Future[Any]) -> None:
        """Abandon a slot that is still computing; it returns to the pool when it finishes."""
        release = self._release
        self._forget(slot)
        self._lent.remove(slot)
        output.add_done_callback(lambda _: release(deque([slot]), slot))

    def _submit(self, slot: Slot, group: Group) -> None:
        with self._watch.step("stage"):
            for at, (_, tile) in enumerate(group):
                self._boundary.stage(tile.cut(self._picture), slot.input, at)
                if self._sample is not None:
                    self._sample.draw(slot, tile, at)
        if self.values is not None:
            cast(ValuesSlot, slot).values[...] = self.values
        # before submit, so that the cleanup after a failure waits for this slot too
        self._in_flight.append((slot, group))
        slot.submit()

    def _finish_oldest(self) -> Slot:
        """Wait for the oldest batch, paste its tiles and return its slot."""
        slot, group = self._in_flight[0]
        with self._watch.step("wait"):
            output = self._wait(slot)
        self._in_flight.popleft()
        self._boundary.check_output(output, slot.input.shape, self._scale)
        self._watch.add(slot)
        with self._watch.step("paste"):
            for at, (number, tile) in enumerate(group):
                self._paste(number, tile, output, at)
                if self._sample is not None:
                    self._sample.collect(slot, tile, at)
        self._done += len(group)
        return slot

    def _paste(self, number: int, tile: Tile, output: npt.NDArray[Any], at: int) -> None:
        scale, guard = self._scale, self._guard
        height = (tile.rows.stop - tile.rows.start) * scale
        width = (tile.columns.stop - tile.columns.start) * scale
        is_checked = guard is not None and guard.wants(number)
        if guard is not None:
            guard.check_numbers(tile, output[at])
        if in_blocks := has_blocks(output):
            result = self._boundary.blocks(output, height, width, at)
        else:
            result = self._boundary.unstage(output, height, width, at, self._canvas.dtype)
        if guard is not None and is_checked:
            guard.check(tile, levels_of(tile.cut(self._picture)), levels_of(result))
        paste = tile.paste_blocks if in_blocks else tile.paste
        paste(result, self._canvas, scale)


def _check_finite(rgb: Array) -> None:
    # NaN is the smallest and the largest value of any array that holds one
    if rgb.dtype == np.float32 and not np.isfinite([rgb.min(), rgb.max()]).all():
        raise PictureError("got floats that are not finite (NaN or infinity)")


def _check_out(out: Any, rgb: Array, scale: int) -> None:
    expected = (rgb.shape[0] * scale, rgb.shape[1] * scale, 3)
    if not isinstance(out, np.ndarray) or out.dtype != rgb.dtype or out.shape != expected:
        found = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise PictureError(f"out is {found}, expected a numpy array of {rgb.dtype} {expected}")
    if not out.flags.writeable or np.may_share_memory(out, rgb):
        raise PictureError("out is read-only or shares memory with the picture")


def _opaque(rgb: Array) -> Array:
    """Return (H, W, 3) with an opaque alpha, (H, W, 4)."""
    white = np.full((*rgb.shape[:2], 1), WHITE[rgb.dtype.name], rgb.dtype)
    return np.concatenate([rgb, white], axis=2)


def _copied_or_new(result: Array, out: Array | None) -> Array:
    return np.ascontiguousarray(result) if out is None else _copied(result, out)


def _copied(result: Array, out: Array) -> Array:
    out[...] = result
    return out
