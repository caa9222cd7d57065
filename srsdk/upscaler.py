"""The user's object: a picture in, a larger picture out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from srsdk import models, pictures
from srsdk.boundary import Boundary
from srsdk.engines import Engine, Slot, choose_backend, open_engine
from srsdk.errors import PictureError, SrsdkError, UsageError
from srsdk.foreign import infer_manifest
from srsdk.manifest import Manifest, read_manifest
from srsdk.pool import SlotPool
from srsdk.settings import settle
from srsdk.tiles import Picture, Tile, balanced_tile, tiles

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (tiles done, tiles in all) after each tile; what it raises cancels the call."""

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
        precision: `"auto"`, what the file says; `"bf16"`: a float32 file computed in bfloat16, by
            OpenVINO, about twice as fast on processors that have it.
        tune: take what a short trial on this machine found fastest (`srsdk tune`): bfloat16, the
            INT8 file beside this one, the size of tiles. Measured on first use, a few seconds, and
            remembered; shown by `repr()`.

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
        precision: Literal["auto", "bf16"] = "auto",
        tune: bool = False,
    ) -> None:
        self._tile = _checked_tile(tile)
        self._slots = CPU_SLOTS if slots == "auto" else _positive("slots", slots)
        if threads is not None:
            _positive("threads", threads)
        path = models.find(model)
        backend = choose_backend(backend, device)
        self._settings = settle(path, precision, tune=tune, backend=backend, threads=threads)
        path, precision = self._settings.path, self._settings.precision
        manifest = None if path.suffix == ".engine" else read_manifest(path)
        self._engine: Engine = open_engine(path, backend, threads=threads, precision=precision)
        try:
            self._manifest = manifest or infer_manifest(path, self._engine)
            self._check_tile_fits()
        except SrsdkError:
            self._engine.close()
            raise
        self._boundary = Boundary.of(self._manifest)
        self._pool = SlotPool(self._engine, self._slots)

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

    @overload
    def __call__(
        self, picture: npt.NDArray[np.uint8], *, progress: Progress | None = None
    ) -> npt.NDArray[np.uint8]: ...
    @overload
    def __call__(
        self, picture: Image.Image, *, progress: Progress | None = None
    ) -> Image.Image: ...
    @overload
    def __call__(
        self, picture: str | os.PathLike[str], *, progress: Progress | None = None
    ) -> npt.NDArray[np.uint8]: ...

    def __call__(self, picture: Any, *, progress: Progress | None = None) -> Any:
        """Upscale one picture.

        Args:
            picture: (H, W, 3) uint8 RGB array; a PIL image of 8 bits a channel; or a path.
            progress: called with (tiles done, tiles in all); what it raises cancels the call.

        Returns:
            (H * scale, W * scale, 3) uint8 RGB array for an array or a path; for a PIL image a PIL
            image, grey where it was grey, with alpha where it had alpha.

        Raises:
            PictureError: not a picture that can be upscaled.
            BackendError: the backend failed.
        """
        if isinstance(picture, Image.Image):
            pixels = pictures.from_image(picture)
            return pictures.to_image(self._upscale(pixels.rgb, progress), pixels)
        if isinstance(picture, (str, os.PathLike)):
            return self._upscale(pictures.read(Path(picture)).rgb, progress)
        return self._upscale(pictures.from_array(picture), progress)

    def upscale_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Upscale a picture file into another, whose format its suffix names.

        Orientation is applied; alpha, ICC profile, EXIF and resolution go along. The target appears
        whole or not at all.

        Raises:
            PictureError: the source is missing, damaged or of an unsupported kind.
            OutputError: the target exists (unless `overwrite`) or cannot be written.
            BackendError: the backend failed.
        """
        pictures.check_target(Path(target), overwrite=overwrite)
        pixels = pictures.read(Path(source))
        image = pictures.to_image(self._upscale(pixels.rgb, progress), pixels)
        pictures.write(image, Path(target), pixels.carried)

    def close(self) -> None:
        """Give everything back; a later call raises `BackendError`. Harmless when repeated."""
        self._pool.close()
        self._engine.close()

    def __enter__(self) -> Upscaler:
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
            f"<Upscaler {m.name} x{m.scale} {m.precision}{self._settings.suffix}, "
            f"{self.backend} on {self.device}, tile {tile}, overlap {m.radius_px} px, "
            f"{m.channels} channels {m.dtype}{inferred}>"
        )

    def _check_tile_fits(self) -> None:
        m = self._manifest
        if self._tile is None:
            return
        if m.size_px not in (None, self._tile):
            raise UsageError(f"tile is {self._tile}, but {m.name} accepts {m.size_px} only")
        smallest_px = 2 * m.radius_px + m.multiple_px
        if min(self._tile) < smallest_px:
            raise UsageError(
                f"a tile of {min(self._tile)} px is too small: {m.name} needs {m.radius_px} px of "
                f"overlap on each side, so at least {smallest_px} px"
            )

    def _upscale(self, rgb: Picture, progress: Progress | None) -> Picture:
        if self._manifest.channels == 3:
            return self._run(rgb, progress)
        # a luma network: colour is of low resolution in the eye, bicubic does for it
        luma, *chroma = Image.fromarray(rgb).convert("YCbCr").split()
        large = Image.fromarray(self._run(np.asarray(luma)[:, :, None], progress)[:, :, 0])
        planes = [large, *(plane.resize(large.size, Image.Resampling.BICUBIC) for plane in chroma)]
        return np.asarray(Image.merge("YCbCr", planes).convert("RGB"))

    def _run(self, picture: Picture, progress: Progress | None) -> Picture:
        """Cut, compute and lay; (H, W, C) to (H * scale, W * scale, C)."""
        height, width, channels = picture.shape
        scale, m = self.scale, self._manifest
        padded = _pad_to_multiple(picture, m.multiple_px)
        rows, columns = padded.shape[:2]
        tile_px = self._tile_for(rows, columns)
        cut = list(tiles(rows, columns, tile_px, m.radius_px, m.multiple_px))
        canvas = _canvas(rows * scale, columns * scale, channels)
        with self._pool.lend(self._boundary.input_shape(tile_px), len(cut)) as slots:
            self._pipeline(cut, slots, padded, canvas, progress)
        return canvas[: height * scale, : width * scale]

    def _pipeline(
        self,
        cut: list[Tile],
        slots: list[Slot],
        picture: Picture,
        canvas: Picture,
        progress: Progress | None,
    ) -> None:
        """Keep every slot busy; lay results in the order of submission."""
        free = deque(slots)
        flying: deque[tuple[Slot, Tile]] = deque()
        done = 0
        try:
            for index in range(len(cut) + len(slots)):
                if index >= len(slots) and flying:
                    slot, tile = flying[0]
                    self._lay(slot, tile, canvas)
                    flying.popleft()
                    free.append(slot)
                    done += 1
                    if progress is not None:
                        progress(done, len(cut))
                if index < len(cut):
                    slot = free.popleft()
                    self._boundary.stage(cut[index].cut(picture), slot.input)
                    slot.submit()
                    flying.append((slot, cut[index]))
        finally:
            for slot, _ in flying:
                # only after a failure, which is the one to report: a slot goes back when it rests
                with suppress(SrsdkError):
                    slot.wait()

    def _lay(self, slot: Slot, tile: Tile, canvas: Picture) -> None:
        height = (tile.rows.stop - tile.rows.start) * self.scale
        width = (tile.columns.stop - tile.columns.start) * self.scale
        tile.lay(self._boundary.unstage(slot.wait(), height, width), canvas, self.scale)

    def _tile_for(self, height: int, width: int) -> tuple[int, int]:
        m = self._manifest
        if m.size_px is not None:
            return min(m.size_px[0], height), min(m.size_px[1], width)
        if self._tile is None:
            return balanced_tile(
                height, width, m.radius_px, self._settings.tile_budget_px, m.multiple_px
            )
        multiple = m.multiple_px
        tile_height, tile_width = (-(-side // multiple) * multiple for side in self._tile)
        return min(tile_height, height), min(tile_width, width)


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


def _checked_tile(tile: object) -> tuple[int, int] | None:
    if tile == "auto":
        return None
    pair = (tile, tile) if isinstance(tile, int) else tile
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise UsageError(f"tile is {tile!r}, expected pixels, (height, width) or 'auto'")
    return _positive("tile", pair[0]), _positive("tile", pair[1])


def _positive(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} is {value!r}, expected a positive whole number")
    return value
