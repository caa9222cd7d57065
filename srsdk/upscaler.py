"""The user's object: a picture in, a larger picture out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, overload

from srsdk import files, models, pictures
from srsdk._plan import PLAN_SUFFIX
from srsdk.call import Call, Progress
from srsdk.concurrency import SPARE_WORKERS, Array, Concurrent, File, Kind
from srsdk.device_arrays import is_on_gpu
from srsdk.devices import choose_gpus
from srsdk.engines import MAX_SLOTS_EACH, Engine, choose_backend, open_engine
from srsdk.enlarge import Step
from srsdk.errors import SrsdkError, UsageError
from srsdk.foreign import infer_manifest
from srsdk.futures import Workers
from srsdk.manifest import Manifest, read_manifest
from srsdk.memory_plan import MemoryPlan, Planner, checked_tile, parse_bytes, positive
from srsdk.options import PictureOptions
from srsdk.pipeline import Pipeline
from srsdk.precision import DeepTwin
from srsdk.probe import Agreement
from srsdk.profile import CallTimings
from srsdk.self_test import check_once, require
from srsdk.settings import refuse_gpu_form, settle, streams_of
from srsdk.texture import mix


class Upscaler(Concurrent):
    """A model, opened once, that upscales any number of pictures of any size.

    Args:
        model: the name of a shipped model (`"gan_x4"`, `"gan_x2"`) or the path of an `.onnx` or
            `.engine` file; a file that carries no manifest opens with what its graph tells.
        device: `"auto"`, `"cpu"`, `"cuda"` or `"cuda:1"`; an `.engine` file runs on a GPU.
        devices: numbers of several GPUs that share the work; instead of `device`.
        backend: `"auto"`, `"openvino"`, `"onnxruntime"` or `"tensorrt"`. A named backend is used
            or it is an error; `auto` is decided once, logged once and shown by `repr()`; what
            OpenVINO refuses to open on this machine is opened by ONNX Runtime.
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
        texture: 0 (the model's fidelity) to 1 (all of the texture of the file beside it, whose name
            ends in `_texture`); None: the model as it is.
        health: hold some tiles of each picture against bicubic, and raise `HealthError` where
            they cannot be right.
        self_test: at the first open of a file on this machine, compute the small picture in its
            manifest and compare it with what the float32 network makes of it. What passed is
            remembered (`SRSDK_CACHE` names another folder); on a GPU each process asks once.

    Raises:
        UsageError: an argument that can never work.
        ModelError: the file is no usable model.
        SelfTestError: it computes something else on this machine than it promises.
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
        texture: float | None = None,
        health: bool = True,
        self_test: bool = True,
    ) -> None:
        self._tile = checked_tile(tile)
        if threads is not None:
            positive("threads", threads)
        streams = streams_of(optimize, threads)
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
        if not gpus:
            refuse_gpu_form(path, manifest)
        graph, manifest = mix(path, manifest, texture)
        open_graph = partial(
            open_engine,
            path,
            gpus=gpus,
            threads=threads,
            streams=streams,
            max_memory=limit,
            precision=self._settings.precision,
        )
        self._engine: Engine = open_graph(chosen, graph=graph, or_other=backend == "auto")
        opened_by = self._engine.backend
        self._refused_by = "" if opened_by == chosen else chosen
        try:
            self._manifest = m = manifest or infer_manifest(path, self._engine)
            planner = Planner(self._engine, m, self._tile, together, self._settings.tile_budgets_px)
            deep = DeepTwin(path, graph, m, lambda form: open_graph(opened_by, graph=form), wanted)
            self._pipeline = Pipeline(self._engine, m, planner, wanted, deep=deep, health=health)
            if self_test:
                check_once(path, self._engine, m, self._settings.precision)
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

    @property
    def step(self) -> Step:
        """This model as one of several in a row."""
        m, count = self._manifest, self._pipeline.count
        return Step(m.name, m.scale, m.radius_px, m.multiple_px, self._enlarge, count)

    @overload
    def __call__(
        self, picture: Kind, *, options: PictureOptions | None = None,
        progress: Progress | None = None, timeout: float | None = None,
    ) -> Kind: ...  # fmt: skip
    @overload
    def __call__(
        self, picture: File, *, options: PictureOptions | None = None,
        progress: Progress | None = None, timeout: float | None = None,
    ) -> Array: ...  # fmt: skip
    @overload
    def __call__(
        self, picture: Any, *, options: PictureOptions | None = None, out: Any = None,
        stream: Any = None, progress: Progress | None = None, timeout: float | None = None,
    ) -> Any: ...  # fmt: skip

    def __call__(
        self, picture: Any, *, options: PictureOptions | None = None, out: Any = None,
        stream: Any = None, progress: Progress | None = None, timeout: float | None = None,
    ) -> Any:  # fmt: skip
        """Upscale one picture.

        Args:
            picture: (H, W, 3) RGB array, or (H, W) grey, or (H, W, 4) with alpha, of uint8, uint16
                or float32 (0..1); a PIL image; or a path. Where the model runs on a GPU, also an
                array of another library that is there (torch, CuPy, Numba, JAX, PyCUDA), uint8: it
                never leaves the GPU.
            options: the size of the result, and how alpha is treated.
            out: for an array (H, W, 3), one of the same library to write the result into.
            stream: for an array on a GPU, the caller's stream: the picture is read after what is
                on it, and what is put on it afterwards sees the result. None: the default stream.
            progress: called with (tiles done, tiles in all); what it raises cancels the call.
            timeout: seconds; checked before each tile.

        Returns:
            (H * scale, W * scale, C) array of the same dtype and C; for a path C is 3, as deep as
            the file; for a PIL image one with grey and alpha as they were. `out` where it was
            given; for an array on a GPU a `GPUArray` for a `GPUArray`, else an object that every
            library takes by DLPack or `__cuda_array_interface__`.

        Raises:
            PictureError: not a picture that can be upscaled.
            HealthError: the result cannot be right.
            BackendError: the backend failed, or the Upscaler is closed or of another process.
            DeadlineExceeded: `timeout` is over.
        """
        call = Call(progress, timeout)
        if out is None and stream is None and not is_on_gpu(picture):
            return files.upscale_any((self.step,), picture, options, call)
        if options is not None:
            raise UsageError(
                "options= goes without out= and stream=, for pictures that are on the host"
            )
        if is_on_gpu(picture):
            return self._pipeline.upscale_on_gpu(picture, out, stream, call)
        if stream is not None:
            raise UsageError("stream= goes with an array that is on a GPU")
        return self._enlarge(pictures.from_array(picture, colour=True), call, out)

    def upscale_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        options: PictureOptions | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> None:
        """Upscale a picture file into another, whose format its suffix names.

        docs/pictures.md says what goes along. The target appears whole or not at all.

        Raises:
            PictureError: the source is missing, damaged, unsupported or too large.
            OutputError: the target exists (unless `overwrite`) or cannot be written.
            BackendError, DeadlineExceeded: as for a call.
        """
        call = Call(progress, timeout)
        paths = Path(source), Path(target)
        files.upscale_file((self.step,), *paths, options=options, overwrite=overwrite, call=call)

    def plan(self, height: int, width: int) -> MemoryPlan:
        """Say what a picture of (height, width) will need, without computing it.

        Raises:
            UsageError: no such size.
            OutOfMemoryError: all that is smaller was tried before and did not fit.
        """
        return self._pipeline.plan(positive("height", height), positive("width", width))

    def self_test(self) -> Agreement | None:
        """Compute the probe of the model file here, and compare it with the float32 network.

        Returns:
            How near the result comes; None: the file has no probe, or was mixed with another.

        Raises:
            SelfTestError: the file computes something else here than it promises.
            BackendError: the backend failed, or the Upscaler is closed or of another process.
        """
        self._check_open()
        settings = self._settings
        return require(settings.path, self._engine, self._manifest, settings.precision)

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        m = self._manifest
        tile = "auto" if self._tile is None else f"{self._tile[0]}x{self._tile[1]}"
        if m.size_px is not None:
            tile = f"{m.size_px[0]}x{m.size_px[1]} (the model's)"
        inferred = ", no manifest: inferred" if m.family == "foreign" else ""
        refused = f" ({self._refused_by} refuses this file)" if self._refused_by else ""
        return (
            f"<{type(self).__name__} {m.name} x{m.scale} {m.precision}{self._settings.suffix}, "
            f"{self.backend} on {self.device}{refused}, tile {tile}, overlap {m.radius_px} px, "
            f"{m.channels} channels {m.dtype}{inferred}>"
        )

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "an Upscaler belongs to its process and cannot be pickled; open one in each process "
            "(ProcessPoolExecutor: in its `initializer`), or use threads: one Upscaler serves many"
        )

    def _serve(self, picture: Any, call: Call) -> Any:
        if is_on_gpu(picture):
            return self._pipeline.upscale_on_gpu(picture, None, None, call)
        return files.upscale_any((self.step,), picture, None, call)

    def _enlarge(self, rgb: Any, call: Call, out: Any = None) -> Any:
        return self._pipeline.upscale(rgb, call, out)

    def _check_open(self) -> None:
        self._pipeline.check_open()
