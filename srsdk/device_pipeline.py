"""Cut, compute, lay, all of it on the GPU: pictures that are there already never leave it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from srsdk import pycuda_neighbour
from srsdk.call import Call
from srsdk.device_arrays import DeviceArray, DevicePicture, borrow, stream_handle
from srsdk.engines import Engine
from srsdk.engines.cuda import Device, Owned, view
from srsdk.engines.cuda_engine import CudaEngine
from srsdk.engines.cuda_slot import CudaSlot
from srsdk.engines.lanes import give_back
from srsdk.errors import BackendError, OutOfMemoryError, PictureError
from srsdk.health import WINDOW_PX, Guard
from srsdk.manifest import Manifest
from srsdk.memory_plan import Choice, Planner
from srsdk.pool import SlotPool
from srsdk.tiles import Span, Tile, tiles


class DevicePipeline:
    """The slots of a `Pipeline`, fed and emptied by copies within the device."""

    def __init__(
        self, engine: Engine, manifest: Manifest, planner: Planner, pool: SlotPool,
        guard: Guard | None,
    ) -> None:  # fmt: skip
        self._engine, self._manifest, self._planner = engine, manifest, planner
        self._pool, self._guard = pool, guard
        self._calls = itertools.count()

    def upscale(self, picture: Any, out: Any, stream: Any, call: Call) -> Any:
        """Enqueue a picture; the caller's stream goes on when the result is there.

        Args:
            picture: (H, W, 3) uint8 on the GPU, by `__cuda_array_interface__` or DLPack.
            out: where to write (H * scale, W * scale, 3) uint8, likewise; None: a `DeviceArray`.
            stream: the caller's; None: the one that the picture names, or the default stream.
            call: progress, cancellation, deadline.

        Returns:
            `out`, or a `DeviceArray`.

        Raises:
            PictureError: no such picture, another GPU, or a model of another boundary.
            BackendError: the model does not run on a GPU, or CUDA failed.
        """
        engine, scale = self._checked_engine(), self._manifest.scale
        device = engine.gpu
        if pycuda_neighbour.is_gpuarray(picture):
            # before the primary context is made the current one
            pycuda_neighbour.check_primary_context(device)
        with device.active():
            caller = stream_handle(stream)
            source = borrow(picture, device, caller)
            if stream is None and source.stream is not None:
                caller = stream_handle(source.stream)
            height, width = source.height * scale, source.width * scale
            if source.channels != self._manifest.channels:
                raise PictureError(f"got {source.channels} channel(s), expected 3")
            shape = (height, width, source.channels)
            result = self._new(picture, shape, device) if out is None else out
            target = borrow(result, device, caller)
            if (target.height, target.width, target.channels) != (height, width, source.channels):
                raise PictureError(
                    f"out is {target.height}x{target.width}, expected {height}x{width}"
                )
            self._run(engine, source, target, caller, call)
        return result

    def _new(self, like: Any, shape: tuple[int, int, int], device: Device) -> Any:
        if pycuda_neighbour.is_gpuarray(like):
            return pycuda_neighbour.new_gpuarray(like, shape)
        return DeviceArray(device, shape)

    def _checked_engine(self) -> CudaEngine:
        engine, m = self._engine, self._manifest
        if not isinstance(engine, CudaEngine):
            raise BackendError(
                f"an array on a GPU needs a model on one GPU, this runs on {engine.device}: "
                "Upscaler(..., device='cuda:0')"
            )
        if (m.dtype, m.layout) != ("uint8", "NHWC"):
            raise PictureError(
                f"an array on a GPU needs a model of uint8 NHWC, {m.name} is {m.dtype} {m.layout}: "
                "export it with python -m export, or pass a numpy array"
            )
        return engine

    def _run(
        self, engine: CudaEngine, source: DevicePicture, target: DevicePicture, caller: int,
        call: Call,
    ) -> None:  # fmt: skip
        multiple = self._manifest.multiple_px
        rows, columns = (-(-side // multiple) * multiple for side in (source.height, source.width))
        choice = self._planner.choose(rows, columns)
        try:
            self._tiled(engine.gpu, source, target, caller, choice, call)
        except OutOfMemoryError as error:
            self._pool.drop_idle()
            choice = self._planner.choose_smaller(choice, rows, columns, error)
            self._tiled(engine.gpu, source, target, caller, choice, call)
        if self._guard is not None and self._guard.wants(next(self._calls)):
            self._look_at(engine.gpu, source, target, caller)

    def _tiled(
        self, device: Device, source: DevicePicture, target: DevicePicture, caller: int,
        choice: Choice, call: Call,
    ) -> None:  # fmt: skip
        m, size = self._manifest, choice.batch
        rows, columns = (
            -(-side // m.multiple_px) * m.multiple_px for side in (source.height, source.width)
        )
        cut = list(tiles(rows, columns, choice.tile_px, m.radius_px, m.multiple_px))
        groups = [cut[at : at + size] for at in range(0, len(cut), size)]
        begun = device.event()
        try:
            device.record(begun.handle, caller)
            with self._pool.lend(choice.input_shape, len(groups), call.check) as lent:
                used: list[CudaSlot] = []
                try:
                    for number, group in enumerate(groups):
                        call.check()
                        slot: Any = lent[number % len(lent)]
                        if slot not in used:
                            device.order(slot.stream, begun.handle)
                            used.append(slot)
                        _Copies(device, slot, choice, m.scale).enqueue(group, source, target)
                        call.report(sum(map(len, groups[: number + 1])), len(cut))
                finally:
                    # a slot's stream keeps its order: it can be lent again before it is done
                    for slot in used:
                        device.order(caller, slot.finished)
        finally:
            give_back([begun])

    def _look_at(
        self, device: Device, source: DevicePicture, target: DevicePicture, caller: int
    ) -> None:
        """Copy the middle of source and result to the host and hold them against bicubic."""
        assert self._guard is not None
        scale = self._manifest.scale
        height, width = min(source.height, WINDOW_PX), min(source.width, WINDOW_PX)
        top, left = (source.height - height) // 2, (source.width - width) // 2
        owned: list[Owned] = []
        windows = []
        try:
            for picture, k in ((source, 1), (target, scale)):
                shape = (height * k, width * k, picture.channels)
                owned.append(device.pinned(shape[0] * shape[1] * shape[2]))
                start = picture.address + top * k * picture.pitch_bytes + left * k * shape[2]
                line = shape[1] * shape[2]
                host = (owned[-1].handle, line)
                device.copy_rows(host, (start, picture.pitch_bytes), line, shape[0], caller)
                windows.append(view(owned[-1], shape, "uint8"))
            device.drain(caller)
            rows = Span(top, top + height, top, top + height)
            columns = Span(left, left + width, left, left + width)
            self._guard.check(Tile(rows, columns), *windows)
        finally:
            give_back(owned)


class _Copies:
    """Fills a slot's device input from a picture, and empties its output into another."""

    def __init__(self, device: Device, slot: CudaSlot, choice: Choice, scale: int) -> None:
        self._device, self._slot, self._scale = device, slot, scale
        _, self._height, self._width, self._channels = choice.input_shape

    def enqueue(self, group: list[Tile], source: DevicePicture, target: DevicePicture) -> None:
        """Enqueue everything for a batch of tiles."""

        def fill(stream: int) -> None:
            for at, tile in enumerate(group):
                self._fill(at, tile, source, stream)

        def drain(stream: int) -> None:
            for at, tile in enumerate(group):
                self._drain(at, tile, target, stream)

        self._slot.enqueue(fill, drain)

    def _fill(self, at: int, tile: Tile, source: DevicePicture, stream: int) -> None:
        pixel, pitch = self._channels, self._width * self._channels
        base = self._slot.addresses[0] + at * self._height * pitch
        rows = _mirrored(tile.rows, source.height, self._height)
        columns = _mirrored(tile.columns, source.width, self._width)
        height, width = rows.max() + 1, columns.max() + 1
        start = source.address + tile.rows.start * source.pitch_bytes + tile.columns.start * pixel
        copy = self._device.copy_rows
        copy((base, pitch), (start, source.pitch_bytes), int(width) * pixel, int(height), stream)
        for column in range(int(width), self._width):
            twin = base + int(columns[column]) * pixel
            copy((base + column * pixel, pitch), (twin, pitch), pixel, int(height), stream)
        for row in range(int(height), self._height):
            twin = base + int(rows[row]) * pitch
            copy((base + row * pitch, pitch), (twin, pitch), pitch, 1, stream)

    def _drain(self, at: int, tile: Tile, target: DevicePicture, stream: int) -> None:
        scale, pixel = self._scale, self._channels
        pitch = self._width * scale * pixel
        base = self._slot.addresses[1] + at * self._height * scale * pitch
        rows, columns = tile.rows, tile.columns
        bottom = min(rows.keep_stop * scale, target.height)
        right = min(columns.keep_stop * scale, target.width)
        top, left = rows.keep_start * scale, columns.keep_start * scale
        inside = base + (top - rows.start * scale) * pitch + (left - columns.start * scale) * pixel
        place = target.address + top * target.pitch_bytes + left * pixel
        ends = (place, target.pitch_bytes), (inside, pitch)
        self._device.copy_rows(*ends, (right - left) * pixel, bottom - top, stream)


def _mirrored(span: Span, length_px: int, input_px: int) -> Any:
    """Return from where each row of the input comes, counted from the tile's start.

    First the picture is mirrored up to its multiple, then the tile up to the input, as the host's
    way has it.
    """
    there = np.arange(min(span.stop, length_px) - span.start)
    tile = np.pad(there, (0, span.stop - span.start - len(there)), mode="reflect")
    return np.pad(tile, (0, input_px - len(tile)), mode="reflect")
