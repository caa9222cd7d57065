"""The user's object: a picture in, a larger picture out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, overload

from PIL import Image

from srsdk import models, pictures
from srsdk._plan import PLAN_SUFFIX
from srsdk.call import Call, Progress
from srsdk.concurrency import SPARE_WORKERS, Array, Concurrent, File, Kind
from srsdk.device_arrays import is_on_gpu
from srsdk.devices import choose_gpus
from srsdk.engines import MAX_SLOTS_EACH, Engine, choose_backend, open_engine
from srsdk.errors import SrsdkError, UsageError
from srsdk.foreign import infer_manifest
from srsdk.futures import Workers
from srsdk.manifest import Manifest, read_manifest
from srsdk.memory_plan import MemoryPlan, Planner, checked_tile, parse_bytes, positive
from srsdk.pipeline import Pipeline
from srsdk.profile import CallTimings
from srsdk.settings import settle


class Upscaler(Concurrent):
    """A model, opened once, that upscales any number of pictures of any size.

    Args:
        model: the name of a shipped model (`"gan_x4"`, `"gan_x2"`) or the path of an `.onnx` or
            `.engine` file; a file that carries no manifest opens with what its graph tells.
        device: `"auto"`, `"cpu"`, `"cuda"` or `"cuda:1"`; an `.engine` file runs on a GPU.
        devices: numbers of several GPUs that share the work; instead of `device`.
        backend: `"auto"`, `"openvino"`, `"onnxruntime"` or `"tensorrt"`. A named backend is used
            or it is an error; `auto` is decided once, logged once and shown by `repr()`.
        tile: side of a tile in source pixels, (height, width), or `"auto"`. The result does not
            depend on it; memory does.
        slots: tiles in flight in each input shape, or `"auto"`.
        batch: tiles that are computed at once, or `"auto"`.
        threads: CPU threads of the backend; None: as many as it thinks best.
        optimize: `"latency"` puts all cores on one tile, for one picture at a time;
            `"throughput"` gives each core a tile of its own, which does more in all, for streams,
            folders and video.
        max_memory: device memory that tiles may use on each GPU, in bytes or as `"2GB"`.
        precision: `"auto"`, what the file says; `"bf16"`: a float32 file computed in bfloat16, by
            OpenVINO, about twice as fast on processors that have it.
        tune: take what a short trial on this machine found fastest (`srsdk tune`): bfloat16, the
            INT8 file beside this one, the size of tiles. Measured on first use, a few seconds, and
            remembered; shown by `repr()`. CPUs only.
        health: hold some tiles of each picture against bicubic, and raise `HealthError` where
            they cannot be right.

    Raises:
        UsageError: an argument that can never work.
        ModelError: the file is no usable model.
        BackendError: the backend is not installed.

    One Upscaler serves many threads, and belongs to the process that opened it. `close()`, or the
    `with` statement, gives everything back.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: str = "auto",
        devices: Sequence[int] | None = None,
        backend: str = "auto",
        tile: int | tuple[int, int] | Literal["auto"] = "auto",
        slots: int | Literal["auto"] = "auto",
        batch: int | Literal["auto"] = "auto",
        threads: int | None = None,
        optimize: Literal["latency", "throughput"] = "latency",
        max_memory: int | str | None = None,
        precision: Literal["auto", "bf16"] = "auto",
        tune: bool = False,
        health: bool = True,
    ) -> None:
        self._tile = checked_tile(tile)
        if threads is not None:
            positive("threads", threads)
        streams = _streams(optimize, threads)
        wanted = None if slots == "auto" else positive("slots", slots)
        together = None if batch == "auto" else positive("batch", batch)
        limit = parse_bytes(max_memory)
        path = models.find(model)
        gpus = choose_gpus(device, devices, is_engine=path.suffix == PLAN_SUFFIX)
        if limit is not None and not gpus:
            raise UsageError("max_memory bounds device memory, but this runs on a CPU: use tile=")
        chosen = choose_backend(backend, on_gpu=bool(gpus), is_engine=path.suffix == PLAN_SUFFIX)
        if tune and gpus:
            raise UsageError("tune chooses among ways of the CPU, but this runs on a GPU")
        self._settings = settle(path, precision, tune=tune, backend=chosen, threads=threads)
        path = self._settings.path
        manifest = read_manifest(path)
        self._engine: Engine = open_engine(
            path,
            chosen,
            gpus=gpus,
            threads=threads,
            streams=streams,
            max_memory=limit,
            precision=self._settings.precision,
        )
        try:
            self._manifest = m = manifest or infer_manifest(path, self._engine)
            planner = Planner(self._engine, m, self._tile, together, self._settings.tile_budgets_px)
            self._pipeline = Pipeline(self._engine, m, planner, wanted, health=health)
        except SrsdkError:
            self._engine.close()
            raise
        at_once = wanted or (MAX_SLOTS_EACH * len(gpus) if gpus else streams + 1)
        self._workers = Workers(at_once + SPARE_WORKERS)

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
        """The backend in use: `openvino`, `onnxruntime` or `tensorrt`."""
        return self._engine.backend

    @property
    def device(self) -> str:
        """The device in use: `cpu`, `cuda:0`, or several such."""
        return self._engine.device

    @overload
    def __call__(
        self, picture: Kind, *, progress: Progress | None = None, timeout: float | None = None
    ) -> Kind: ...
    @overload
    def __call__(
        self, picture: File, *, progress: Progress | None = None, timeout: float | None = None
    ) -> Array: ...
    @overload
    def __call__(
        self,
        picture: Any,
        *,
        out: Any = None,
        stream: Any = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Any: ...

    def __call__(
        self,
        picture: Any,
        *,
        out: Any = None,
        stream: Any = None,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Upscale one picture.

        Args:
            picture: (H, W, 3) uint8 RGB array; a PIL image of 8 bits a channel; or a path. Where
                the model runs on a GPU, also an array of another library that is there (torch,
                CuPy, Numba, JAX, PyCUDA): it never leaves the GPU.
            out: for an array, one of the same library to write the result into.
            stream: for an array on a GPU, the caller's stream: the picture is read after what is
                on it, and what is put on it afterwards sees the result. None: the default stream.
            progress: called with (tiles done, tiles in all); what it raises cancels the call.
            timeout: seconds; checked before each tile.

        Returns:
            (H * scale, W * scale, 3) uint8 RGB array for an array or a path; for a PIL image a PIL
            image, grey where it was grey, with alpha where it had alpha. `out` where it was given;
            for an array on a GPU a `GPUArray` for a `GPUArray`, else an object that every library
            takes by DLPack or `__cuda_array_interface__`.

        Raises:
            PictureError: not a picture that can be upscaled.
            HealthError: the result cannot be right.
            BackendError: the backend failed, or the Upscaler is closed or of another process.
            DeadlineExceeded: `timeout` is over.
        """
        call = Call(progress, timeout)
        if out is None and stream is None and not is_on_gpu(picture):
            return self._serve(picture, call)
        if is_on_gpu(picture):
            return self._pipeline.upscale_on_gpu(picture, out, stream, call)
        if stream is not None:
            raise UsageError("stream= goes with an array that is on a GPU")
        return self._pipeline.upscale(pictures.from_array(picture), call, out)

    def upscale_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> None:
        """Upscale a picture file into another, whose format its suffix names.

        Orientation is applied; alpha, ICC profile, EXIF and resolution go along. The target appears
        whole or not at all.

        Raises:
            PictureError: the source is missing, damaged or of an unsupported kind.
            OutputError: the target exists (unless `overwrite`) or cannot be written.
            BackendError, DeadlineExceeded: as for a call.
        """
        call = Call(progress, timeout)
        pictures.check_target(Path(target), overwrite=overwrite)
        pixels = pictures.read(Path(source))
        image = pictures.to_image(self._pipeline.upscale(pixels.rgb, call), pixels)
        pictures.write(image, Path(target), pixels.carried)

    def plan(self, height: int, width: int) -> MemoryPlan:
        """Say what a picture of (height, width) will need, without computing it.

        Raises:
            UsageError: no such size.
            OutOfMemoryError: all that is smaller was tried before and did not fit.
        """
        return self._pipeline.plan(positive("height", height), positive("width", width))

    def profile(self) -> AbstractContextManager[list[CallTimings]]:
        """Collect the timings of the calls within a `with` block, of all threads.

        >>> with up.profile() as calls:     # doctest: +SKIP
        ...     up(picture)
        >>> calls[0].execute_ms             # doctest: +SKIP
        """
        return self._pipeline.profiler.profile()

    def close(self) -> None:
        """Give everything back; a later call raises `BackendError`. Harmless when repeated.

        Of what `submit` and the like were given, what has begun is finished and the rest cancelled.
        """
        if not self._pipeline.is_ours:
            return
        self._workers.close()
        self._pipeline.close()
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

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "an Upscaler belongs to its process and cannot be pickled; open one in each process "
            "(ProcessPoolExecutor: in its `initializer`), or use threads: one Upscaler serves many"
        )

    def _serve(self, picture: Any, call: Call) -> Any:
        if isinstance(picture, Image.Image):
            pixels = pictures.from_image(picture)
            return pictures.to_image(self._pipeline.upscale(pixels.rgb, call), pixels)
        if is_on_gpu(picture):
            return self._pipeline.upscale_on_gpu(picture, None, None, call)
        if isinstance(picture, (str, os.PathLike)):
            return self._pipeline.upscale(pictures.read(Path(picture)).rgb, call)
        return self._pipeline.upscale(pictures.from_array(picture), call)

    def _check_open(self) -> None:
        self._pipeline.check_open()


def _streams(optimize: object, threads: int | None) -> int:
    """Return how many tiles compute at the same time; one more is cut or laid."""
    if optimize == "latency":
        return 1
    if optimize != "throughput":
        raise UsageError(f"optimize is {optimize!r}, expected 'latency' or 'throughput'")
    return threads or cpu_count()


def cpu_count() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
