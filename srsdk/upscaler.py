"""The user's object: a picture in, a larger picture out."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from srsdk import files, luma, models
from srsdk._arguments import check_tile_fits, checked_tile, positive
from srsdk.boundary import Boundary
from srsdk.engines import Engine, Slot, choose_backend, open_engine
from srsdk.enlarge import Progress, Step
from srsdk.errors import SrsdkError
from srsdk.foreign import infer_manifest
from srsdk.manifest import Manifest, read_manifest
from srsdk.options import PictureOptions
from srsdk.pool import SlotPool
from srsdk.precision import DeepTwin
from srsdk.sample import Sample
from srsdk.texture import mix
from srsdk.tiles import Array, Tile, balanced_tile, new_canvas, pad_to_multiple, tiles

CPU_TILE_BUDGET_PX = 512 * 512
"""Largest tile that `tile="auto"` takes on a CPU: memory grows with it, overlap shrinks."""
CPU_SLOTS = 2
"""One computes while the other is cut or laid."""


class Upscaler:
    """A model, opened once, that upscales any number of pictures of any size.

    Args:
        model: the name of a shipped model (`"gan_x4"`, `"gan_x2"`) or the path of an `.onnx` file;
            a file that carries no manifest opens with what its graph tells.
        device: `"auto"` or `"cpu"`.
        backend: `"auto"`, `"openvino"` or `"onnxruntime"`. A named backend is used or it is an
            error; `auto` is decided once, logged once and shown by `repr()`.
        tile: side of a tile in source pixels, (height, width), or `"auto"`. The result does not
            depend on it; memory does.
        slots: tiles in flight in each input shape, or `"auto"`.
        threads: CPU threads of the backend; None: as many as it thinks best.
        texture: 0 (the model's fidelity) to 1 (all of the texture of the file beside it, whose name
            ends in `_texture`); None: the model as it is.

    Raises:
        UsageError: an argument that can never work.
        ModelError: the file is no usable model.
        BackendError: the backend is not installed.

    One Upscaler serves many threads. `close()`, or the `with` statement, gives everything back.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str = "auto",
        backend: str = "auto",
        tile: int | tuple[int, int] | Literal["auto"] = "auto",
        slots: int | Literal["auto"] = "auto",
        threads: int | None = None,
        texture: float | None = None,
    ) -> None:
        self._tile = checked_tile(tile)
        self._slots = CPU_SLOTS if slots == "auto" else positive("slots", slots)
        if threads is not None:
            positive("threads", threads)
        path = models.find(model)
        manifest = None if path.suffix == ".engine" else read_manifest(path)
        graph = None
        if texture is not None:
            graph, manifest = mix(path, manifest, texture)
        self._engine: Engine = open_engine(
            path, choose_backend(backend, device), threads=threads, graph=graph
        )
        try:
            self._manifest = manifest or infer_manifest(path, self._engine)
            check_tile_fits(self._tile, self._manifest)
        except SrsdkError:
            self._engine.close()
            raise
        self._boundary = Boundary.of(self._manifest)
        self._pool = SlotPool(self._engine, self._slots)
        self._deep = DeepTwin(
            path, graph, self.backend, self._manifest, threads=threads, slots=self._slots
        )

    @property
    def manifest(self) -> Manifest:
        """What the model file says of itself, or what was inferred where it says nothing."""
        return self._manifest

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return self._manifest.scale

    @property
    def backend(self) -> str:
        """The backend in use: `openvino` or `onnxruntime`."""
        return self._engine.backend

    @property
    def device(self) -> str:
        """The device in use: `cpu`."""
        return self._engine.device

    @property
    def step(self) -> Step:
        """This model as one of several in a row."""
        m = self._manifest
        return Step(m.name, m.scale, m.radius_px, m.multiple_px, self._upscale, self._count)

    @overload
    def __call__(
        self,
        picture: npt.NDArray[Any] | str | os.PathLike[str],
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
    ) -> npt.NDArray[Any]: ...
    @overload
    def __call__(
        self,
        picture: Image.Image,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
    ) -> Image.Image: ...
    def __call__(
        self,
        picture: Any,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Upscale one picture.

        Args:
            picture: (H, W, 3) RGB array, or (H, W) grey, or (H, W, 4) with alpha, of uint8, uint16
                or float32 (0..1); a PIL image; or a path.
            options: the size of the result, and how alpha is treated.
            progress: called with (tiles done, tiles in all); what it raises cancels the call.

        Returns:
            (H * scale, W * scale, C) array of the same dtype and C; for a path C is 3, as deep as
            the file; for a PIL image a PIL image, with grey and alpha as they were.

        Raises:
            PictureError: not a picture that can be upscaled, or larger than memory.
            BackendError: the backend failed.
        """
        return files.upscale_any((self.step,), picture, options, progress)

    def upscale_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        options: PictureOptions | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Upscale a picture file into another, whose format its suffix names.

        docs/pictures.md says what goes along. The target appears whole or not at all.

        Raises:
            PictureError: the source is missing, damaged, unsupported or too large.
            OutputError: the target exists (unless `overwrite`) or cannot be written.
            BackendError: the backend failed.
        """
        files.upscale_file(
            (self.step,),
            Path(source),
            Path(target),
            options=options,
            overwrite=overwrite,
            progress=progress,
        )

    def close(self) -> None:
        """Give everything back; a later call raises `BackendError`. Harmless when repeated."""
        self._deep.close()
        self._pool.close()
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        m = self._manifest
        tile = "auto" if self._tile is None else f"{self._tile[0]}x{self._tile[1]}"
        if m.size_px is not None:
            tile = f"{m.size_px[0]}x{m.size_px[1]} (the model's)"
        inferred = ", no manifest: inferred" if m.family == "foreign" else ""
        return (
            f"<{type(self).__name__} {m.name} x{m.scale} {m.precision}, "
            f"{self.backend} on {self.device}, tile {tile}, "
            f"overlap {m.radius_px} px, {m.channels} channels {m.dtype}{inferred}>"
        )

    def _upscale(self, rgb: Array, progress: Progress | None) -> Array:
        if self._manifest.channels == 3:
            return self._run(rgb, progress)
        return luma.upscale(lambda plane: self._run(plane, progress), rgb)

    def _count(self, height: int, width: int) -> int:
        m = self._manifest
        rows, columns = (side + -side % m.multiple_px for side in (height, width))
        tile_px = self._tile_for(rows, columns)
        return sum(1 for _ in tiles(rows, columns, tile_px, m.radius_px, m.multiple_px))

    def _run(
        self, picture: Array, progress: Progress | None, sample: Sample | None = None
    ) -> Array:
        """Cut, compute and lay; (H, W, C) to (H * scale, W * scale, C) of the same dtype."""
        height, width, channels = picture.shape
        scale, m = self.scale, self._manifest
        padded = pad_to_multiple(picture, m.multiple_px)
        rows, columns = padded.shape[:2]
        tile_px = self._tile_for(rows, columns)
        cut = list(tiles(rows, columns, tile_px, m.radius_px, m.multiple_px))
        canvas = new_canvas(rows * scale, columns * scale, channels, picture.dtype)
        boundary, pool = self._boundary, self._pool
        if picture.dtype != np.uint8 and not boundary.is_float:
            boundary, pool = self._deep.get()
        with pool.lend(boundary.input_shape(tile_px), len(cut)) as slots:
            self._pipeline(boundary, cut, slots, padded, canvas, progress, sample)
        return canvas[: height * scale, : width * scale]

    def _pipeline(
        self,
        boundary: Boundary,
        cut: list[Tile],
        slots: list[Slot],
        picture: Array,
        canvas: Array,
        progress: Progress | None,
        sample: Sample | None,
    ) -> None:
        """Keep every slot busy; lay results in the order of submission."""
        free = deque(slots)
        flying: deque[tuple[Slot, Tile]] = deque()
        done = 0
        try:
            for index in range(len(cut) + len(slots)):
                if index >= len(slots) and flying:
                    slot, tile = flying[0]
                    self._lay(boundary, slot, tile, canvas)
                    if sample is not None:
                        sample.collect(slot, tile)
                    flying.popleft()
                    free.append(slot)
                    done += 1
                    if progress is not None:
                        progress(done, len(cut))
                if index < len(cut):
                    slot = free.popleft()
                    boundary.stage(cut[index].cut(picture), slot.input)
                    if sample is not None:
                        sample.draw(slot, cut[index])
                    slot.submit()
                    flying.append((slot, cut[index]))
        finally:
            for slot, _ in flying:
                # only after a failure, which is the one to report: a slot goes back when it rests
                with suppress(SrsdkError):
                    slot.wait()

    def _lay(self, boundary: Boundary, slot: Slot, tile: Tile, canvas: Array) -> None:
        height = (tile.rows.stop - tile.rows.start) * self.scale
        width = (tile.columns.stop - tile.columns.start) * self.scale
        result = boundary.unstage(slot.wait(), height, width, canvas.dtype)
        tile.lay(result, canvas, self.scale)

    def _tile_for(self, height: int, width: int) -> tuple[int, int]:
        m = self._manifest
        if m.size_px is not None:
            return min(m.size_px[0], height), min(m.size_px[1], width)
        if self._tile is None:
            return balanced_tile(height, width, m.radius_px, CPU_TILE_BUDGET_PX, m.multiple_px)
        multiple = m.multiple_px
        tile_height, tile_width = (-(-side // multiple) * multiple for side in self._tile)
        return min(tile_height, height), min(tile_width, width)
