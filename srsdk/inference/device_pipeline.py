"""Upscale pictures that are already in GPU memory, without copying them to the host."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from srsdk.engines.cuda import pycuda
from srsdk.engines.cuda.arrays import (
    DeviceArray,
    DevicePicture,
    borrow,
    current_stream,
    stream_handle,
)
from srsdk.engines.cuda.compute_streams import release_all
from srsdk.engines.cuda.device import Device, Owned, view
from srsdk.engines.cuda.engine import CudaEngine
from srsdk.engines.cuda.slot import CudaSlot
from srsdk.engines.protocol import Engine
from srsdk.errors import BackendError, OutOfMemoryError, PictureError, UsageError
from srsdk.inference.output_checks import WINDOW_PX, Guard
from srsdk.inference.planner import Choice, Planner
from srsdk.inference.slot_pool import SlotPool
from srsdk.inference.tensor_io import values_of
from srsdk.inference.tiling import Span, Tile, tiles
from srsdk.manifest import Manifest
from srsdk.scheduling.context import Call


class DevicePipeline:
    """Runs pictures through the slots of a `Pipeline` with device-to-device copies."""

    def __init__(
        self, engine: Engine, manifest: Manifest, planner: Planner, pool: SlotPool,
        guard: Guard | None,
    ) -> None:  # fmt: skip
        self._engine, self._manifest, self._planner = engine, manifest, planner
        self._pool, self._guard = pool, guard
        self._calls = itertools.count()

    def upscale(self, picture: Any, out: Any, stream: Any, call: Call) -> Any:
        """Enqueue the upscaling of a picture; the caller's stream waits for the result.

        Args:
            picture: (H, W, 3) uint8 on the GPU, with `__cuda_array_interface__` or DLPack.
            out: (H * scale, W * scale, 3) uint8 array to write to; None: a new `DeviceArray`.
            stream: the caller's stream; None: that on which the picture's library works, or the
                default stream.
            call: progress, cancellation, deadline.

        Returns:
            `out`, or a `DeviceArray`.

        Raises:
            PictureError: not such a picture, on another GPU, or a model that is not uint8 NHWC.
            UsageError: the stream is capturing a CUDA graph.
            BackendError: the model does not run on a GPU, or CUDA failed.
        """
        engine, scale = self._checked_engine(), self._manifest.scale
        device = engine.gpu
        if pycuda.is_gpuarray(picture):
            # must be checked before the primary context becomes current
            pycuda.check_primary_context(device)
        if stream is None:
            stream = current_stream(picture)
        caller = stream_handle(stream)
        with device.active():
            _refuse_capture(device, caller)
            source = borrow(picture, device, caller)
            height, width = source.height * scale, source.width * scale
            if source.channels != self._manifest.channels:
                expected = self._manifest.channels
                raise PictureError(f"got {source.channels} channel(s), expected {expected}")
            shape = (height, width, source.channels)
            if out is not None:
                result = out
            elif pycuda.is_gpuarray(picture):
                result = pycuda.new_gpuarray(picture, shape)
            else:
                result = DeviceArray(device, shape, stream)
            target = borrow(result, device, caller)
            if (target.height, target.width, target.channels) != (height, width, source.channels):
                raise PictureError(
                    f"out is {target.height}x{target.width}, expected {height}x{width}"
                )
            self._run(engine, source, target, caller, call)
            if isinstance(result, DeviceArray):
                result.written(stream)
        return result

    def _checked_engine(self) -> CudaEngine:
        engine, m = self._engine, self._manifest
        if not isinstance(engine, CudaEngine):
            raise BackendError(
                f"an array on a GPU needs a model on one GPU, this runs on {engine.device}: "
                "Upscaler(..., device='cuda:0')"
            )
        if (m.dtype, m.layout) != ("uint8", "NHWC"):
            raise PictureError(
                f"an array on a GPU needs a uint8 NHWC model, {m.name} is {m.dtype} {m.layout}: "
                "export it with python -m export in a checkout of srsdk, or pass a numpy array"
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
            engine.gpu.trim()
            choice = self._planner.choose_smaller(choice, rows, columns, error)
            self._tiled(engine.gpu, source, target, caller, choice, call)
        if self._guard is not None and self._guard.wants(next(self._calls)):
            self._check_window(engine.gpu, source, target, caller)

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
        begun, numbers = device.event(), values_of(m, call.inputs)
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
                        if numbers is not None:
                            slot.values[...] = numbers
                        _Copies(device, slot, choice, m.scale).enqueue(group, source, target)
                        call.report(sum(map(len, groups[: number + 1])), len(cut))
                finally:
                    # a slot's stream keeps the order: the slot can be lent again before it finishes
                    for slot in used:
                        device.order(caller, slot.finished)
        finally:
            release_all([begun])

    def _check_window(
        self, device: Device, source: DevicePicture, target: DevicePicture, caller: int
    ) -> None:
        """Copy the center of source and result to the host and compare with bicubic."""
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
            release_all(owned)


def _refuse_capture(device: Device, stream: int) -> None:
    """Reject a stream that records a CUDA graph: slots and their events cannot become part of it.

    Raises:
        UsageError: the stream is capturing.
    """
    if device.is_capturing(stream):
        raise UsageError(
            "the stream is capturing a CUDA graph, which this call cannot be part of: call it "
            "before or after the capture, or on another stream"
        )


class _Copies:
    """Copies tiles from a picture to a slot's device input, and from its output to the result."""

    def __init__(self, device: Device, slot: CudaSlot, choice: Choice, scale: int) -> None:
        self._device, self._slot, self._scale = device, slot, scale
        _, self._height, self._width, self._channels = choice.input_shape

    def enqueue(self, group: list[Tile], source: DevicePicture, target: DevicePicture) -> None:
        """Enqueue copies and computation of a batch of tiles."""

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
        outside = target.address + top * target.pitch_bytes + left * pixel
        to, source = (outside, target.pitch_bytes), (inside, pitch)
        self._device.copy_rows(to, source, (right - left) * pixel, bottom - top, stream)


def _mirrored(span: Span, length_px: int, input_px: int) -> Any:
    """Return the source index of each row or column of the input, relative to the tile's start.

    As on the host, the picture is first mirrored up to the multiple, then the tile up to the
    input size.
    """
    there = np.arange(min(span.stop, length_px) - span.start)
    tile = np.pad(there, (0, span.stop - span.start - len(there)), mode="reflect")
    return np.pad(tile, (0, input_px - len(tile)), mode="reflect")
