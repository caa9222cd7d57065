"""`Upscaler`: a picture in, a larger picture out."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any, Literal, NoReturn, Protocol, Unpack, overload

import numpy.typing as npt
from PIL import Image

from srsdk import models
from srsdk.adoption.io import IO
from srsdk.budget import DEFAULT, Budget
from srsdk.engines.cuda.arrays import is_on_gpu
from srsdk.errors import UsageError
from srsdk.formats.probe import Agreement
from srsdk.image import decode
from srsdk.image.arrays import Array
from srsdk.image.streams import Encoded
from srsdk.inference.global_context.cost import cut_text
from srsdk.inference.pipeline import WITH_ALPHA
from srsdk.inference.planner import MemoryPlan, positive
from srsdk.inference.profiling import CallTimings
from srsdk.inference.self_test import require
from srsdk.manifest import Manifest
from srsdk.opening import Placement, Tiling, check_flags, open_model
from srsdk.options import Backend, Optimize, PictureOptions, Precision, Provider
from srsdk.scheduling import callbacks
from srsdk.scheduling.context import Call, Progress
from srsdk.scheduling.futures import Workers
from srsdk.upscaling import files
from srsdk.upscaling.background import CallOptions, D, Picture
from srsdk.upscaling.base import BaseUpscaler
from srsdk.upscaling.steps import Step

SPARE_WORKERS = 2
"""Threads in addition to one per slot: they decode and convert while the slots compute."""


class OnGpu(Protocol):
    """An array of another library in the memory of a GPU."""

    @property
    def __cuda_array_interface__(self) -> Any: ...


class Upscaler(BaseUpscaler):
    """A model, opened once, that upscales any number of pictures of any size.

    Args:
        model: the name of a shipped model (`"gan_x4"`, `"gan_x2"`) or the path of an `.onnx` or
            `.engine` file, which is then the file that runs; for a file without a manifest, its
            properties are inferred from the graph.
        scale: the scale that the model must have, as a check; a call's `options` resize the result.
        device: `"auto"`, `"cpu"`, `"cuda"` or `"cuda:1"`; an `.engine` file runs on a CUDA GPU. In
            OpenVINO also `"gpu"`, `"gpu:1"` and `"npu"`, `"auto:gpu,cpu"` (the first of these that
            can run the model) and `"hetero:gpu,cpu"` (one graph over both). See docs/devices.md.
        devices: numbers of several GPUs that share the work; instead of `device`.
        backend: `"auto"`, `"openvino"`, `"onnxruntime"` or `"tensorrt"`. A named backend is used
            or it is an error. `auto` is decided once, logged once and shown by `repr()`; ONNX
            Runtime opens a file that OpenVINO refuses on this machine.
        provider: of ONNX Runtime, the execution provider: `"coreml"`, `"directml"`, `"openvino"`,
            `"tensorrt-rtx"` or `"webgpu"`; `"cpu"` and `"cuda"` are its other devices. `device`
            may choose among the provider's devices.
        tile: side of a tile in source pixels, (height, width), or `"auto"`. The result does not
            depend on it; memory does. On a GPU, smaller pictures are mirrored up to it, which
            changes a few pixels at those edges.
        slots: tiles in flight in each input shape, or `"auto"`.
        batch: tiles that are computed at once, or `"auto"`.
        threads: CPU threads of the backend; None: its own choice.
        optimize: `"latency"` uses all cores for one tile, for one picture at a time;
            `"throughput"` gives each core a tile of its own, which is faster overall, for streams,
            folders and video.
        max_memory: device memory that tiles may use on each GPU, in bytes or as `"2GB"`.
        precision: `"auto"`: for a name such as `"gan_x4"` on a CPU with AVX2, the INT8 file of the
            same weights, 2 to 4 times as fast at up to 0.03 dB less, if it passes its self-test
            here (so not with `self_test=False`) and without `texture`; else the file's own.
            `repr()` shows it. Pictures with more than 8 bits are computed in float32. `"fp32"`:
            the float32 file. `"fp16"`, `"int8"`: that file of the same weights beside it, or an
            error. `"bf16"`: OpenVINO computes a
            float32 file in bfloat16, about twice as fast on processors that have it.
        tune: use what a short trial on this machine found fastest (`srsdk tune`): bfloat16, the
            INT8 file beside this one, the tile size. It takes a few seconds on first use and is
            remembered; `repr()` shows the choice. With `device="auto"` it tries OpenVINO's other
            devices here, too; not with another device that is named.
        texture: 0 (the model's fidelity) to 1 (all of the texture of the file beside it, whose name
            ends in `_texture`); None: the model as it is.
        health: compare some tiles of each picture with bicubic, and raise
            `HealthError` where they cannot be right.
        self_test: at the first open of a file on this machine, compute a small test picture and
            compare it with the float32 network's result in the manifest. A pass is remembered
            (`SRSDK_CACHE` names another folder); on a GPU each process tests once.
        cache: keep what OpenVINO compiles in the same folder, so that the next process opens the
            file faster.
        io: what an `.onnx` file without a manifest reads and writes: range, mean and std, order of
            the channels and of the axes, further inputs. What it leaves open is found by the graph
            and by a run of it, and said once in the log. `srsdk adopt` writes it into the file.
        budget: limits on memory, pixels, time and pages, shared with the other calls that have it;
            None: that of the process, which limits memory only.

    Raises:
        UsageError: an argument that can never work.
        ModelError: the file is no usable model.
        SelfTestError: its results on this machine differ from those that its manifest promises.
        BackendError: the backend is not installed.

    One Upscaler serves many threads and belongs to the process that opened it. `close()`, or the
    `with` statement, releases everything.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        scale: int | None = None,
        device: str = "auto",
        devices: Sequence[int] | None = None,
        backend: Backend = "auto",
        provider: Provider | None = None,
        tile: int | tuple[int, int] | Literal["auto"] = "auto",
        slots: int | Literal["auto"] = "auto",
        batch: int | Literal["auto"] = "auto",
        threads: int | None = None,
        optimize: Optimize = "latency",
        max_memory: int | str | None = None,
        precision: Precision = "auto",
        tune: bool = False,
        texture: float | None = None,
        health: bool = True,
        self_test: bool = True,
        cache: bool = True,
        io: IO | None = None,
        budget: Budget | None = None,
    ) -> None:
        tiling = Tiling.of(tile, slots, batch)
        check_flags(tune=tune, health=health, self_test=self_test, cache=cache)
        if budget is not None and not isinstance(budget, Budget):
            raise UsageError(f"budget is {budget!r}, expected srsdk.Budget(...)")
        if io is not None and not isinstance(io, IO):
            raise UsageError(f"io is {io!r}, expected srsdk.IO(...), such as srsdk.IO(range=255)")
        self.budget = budget or DEFAULT
        located = models.locate(model, scale)
        path = located.path
        if io is None and located.io:
            # of a darktable package, which says what its networks read
            io = IO(**located.io)
        placement = Placement.of(
            path,
            device=device,
            devices=devices,
            backend=backend,
            provider=provider,
            threads=threads,
            optimize=optimize,
            max_memory=max_memory,
        )
        self._tile = tiling.tile
        self._opened = open_model(
            path,
            placement,
            tiling,
            io=io,
            # a fetched model is the file whose hash was compared, not another one beside it
            is_named=models.is_name(model) and located.card is None,
            scale=scale,
            precision=precision,
            tune=tune,
            texture=texture,
            health=health,
            self_test=self_test,
            cache=cache,
        )
        if located.card is not None and not self.manifest.licence:
            stated = replace(self.manifest, licence=located.card.license)
            self._opened = replace(self._opened, manifest=stated)
        self._engine, self._pipeline = self._opened.engine, self._opened.pipeline
        self._workers = Workers((tiling.slots or placement.slots) + SPARE_WORKERS)
        self._closing = threading.Lock()

    @property
    def manifest(self) -> Manifest:
        """The model file's metadata; inferred from the graph for a file without any."""
        return self._opened.manifest

    @property
    def backend(self) -> str:
        """The backend in use: `openvino`, `onnxruntime` or `tensorrt`."""
        return self._engine.backend

    @property
    def device(self) -> str:
        """The device in use: `cpu`, `cuda:0`, `gpu`, `gpu (auto:gpu,cpu)`, or several such."""
        return self._engine.device

    @property
    def step(self) -> Step:
        """This model as one of several in a row."""
        m, count = self.manifest, self._pipeline.count
        return Step(
            m.name,
            m.scale,
            m.radius_px,
            m.multiple_px,
            self._enlarge,
            count,
            takes_alpha=m.channels == WITH_ALPHA,
            inputs=tuple(m.inputs),
            input_ranges=m.input_ranges,
            tiling=m.tiling,
        )

    @overload  # type: ignore[override]  # out= and stream= could be names of inputs
    def __call__(self, picture: Image.Image, **call: Unpack[CallOptions]) -> Image.Image: ...
    @overload
    def __call__(
        self, picture: npt.NDArray[D], *, out: npt.NDArray[D], **call: Unpack[CallOptions]
    ) -> npt.NDArray[D]: ...
    @overload
    def __call__(self, picture: npt.NDArray[D], **call: Unpack[CallOptions]) -> npt.NDArray[D]: ...
    @overload
    def __call__(self, picture: Encoded, **call: Unpack[CallOptions]) -> Array: ...
    @overload
    def __call__(self, picture: Picture, **call: Unpack[CallOptions]) -> Array | Image.Image: ...
    @overload
    def __call__(
        self, picture: OnGpu, *, out: Any = None, stream: Any = None, **call: Unpack[CallOptions]
    ) -> Any: ...
    @overload
    def __call__(
        self,
        picture: Image.Image,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        **inputs: float,
    ) -> Image.Image: ...
    @overload
    def __call__(
        self,
        picture: npt.NDArray[D],
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        **inputs: float,
    ) -> npt.NDArray[D]: ...
    @overload
    def __call__(
        self,
        picture: Encoded,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        **inputs: float,
    ) -> Array: ...
    @overload
    def __call__(
        self,
        picture: Picture,
        *,
        options: PictureOptions | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        **inputs: float,
    ) -> Array | Image.Image: ...

    def __call__(
        self,
        picture: Any,
        *,
        options: PictureOptions | None = None,
        out: Any = None,
        stream: Any = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        **inputs: float,
    ) -> Any:
        """Upscale one picture.

        Args:
            picture: (H, W, 3) RGB array, or (H, W) gray, or (H, W, 4) with alpha, of uint8, uint16
                or float32 (0..1); a PIL image; or a picture file: its path, its bytes, or an open
                binary file, which is read from its start. Where the model runs on a GPU, also an
                uint8 array of another library on that GPU (torch, CuPy, Numba, JAX, PyCUDA), which
                never leaves it.
            options: size of the result, order of the channels, and how alpha is treated.
            out: for an array (H, W, 3), one of the same library to write the result into.
            stream: for an array on a GPU, the caller's stream: the picture is read after the work
                on it, and later work on it sees the result. None: the default stream.
            progress: called with (tiles done, tiles in all); an exception from it cancels the call.
            timeout: seconds; checked before each tile.
            inputs: numbers that the network takes beside the picture, such as `noise=15`; their
                names and defaults are `manifest.inputs`, their ranges `manifest.input_ranges`.
                `options.inputs` gives them where there are no keywords: to files, streams and
                futures.

        Returns:
            As for `BaseUpscaler`; `out` where it was given; for an array on a GPU a `GPUArray` for
            a `GPUArray`, else an object that every library takes by DLPack or
            `__cuda_array_interface__`.

        Raises:
            PictureError: not a picture that can be upscaled.
            UsageError: an argument that can never work.
            HealthError: the result cannot be right.
            BackendError: the backend failed, or the Upscaler is closed or of another process.
            DeadlineExceeded: `timeout` has passed.
        """
        call = self._begin(options, progress, timeout)
        self._give(inputs, call)
        if out is None and stream is None:
            return self._serve(picture, options, call)
        if options is not None:
            raise UsageError(
                "options= cannot be combined with out= or stream=, which are for plain arrays"
            )
        if is_on_gpu(picture):
            return self._pipeline.upscale_on_gpu(picture, out, stream, call)
        if stream is not None:
            raise UsageError("stream= is for an array on a GPU, this one is not: omit stream=")
        return self._enlarge(decode.from_array(picture, color=True), call, out)

    def plan(self, height: int, width: int) -> MemoryPlan:
        """Return the tiles and the memory that a picture of (height, width) needs.

        Raises:
            UsageError: no such size.
            OutOfMemoryError: even the smallest tiles did not fit in an earlier call.
        """
        return self._pipeline.plan(positive("height", height), positive("width", width))

    def self_test(self) -> Agreement | None:
        """Compute the model file's test picture here and compare it with the float32 network.

        Returns:
            How close the result is, or None where the file has no test picture or was mixed with
            another.

        Raises:
            SelfTestError: the results here differ from those that the manifest promises.
            BackendError: the backend failed, or the Upscaler is closed or of another process.
        """
        self._check_open()
        settings = self._opened.settings
        return require(settings.path, self._engine, self.manifest, settings.precision)

    def profile(self) -> AbstractContextManager[list[CallTimings]]:
        """Collect the timings of the calls within a `with` block, of all threads.

        Examples:
        >>> with up.profile() as calls:     # doctest: +SKIP
        ...     up(picture)
        >>> calls[0].execute_ms             # doctest: +SKIP
        """
        return self._pipeline.profiler.profile()

    def close(self) -> None:
        """Release everything; a later call raises `BackendError`. Harmless when repeated.

        Running jobs finish; queued jobs are cancelled.

        Raises:
            UsageError: in a callback of the same Upscaler; nothing is closed.
        """
        if not self._pipeline.is_ours:
            return
        callbacks.check_close(self._workers)
        with self._closing, ExitStack() as last_first:
            last_first.callback(self._engine.close)
            last_first.callback(self._pipeline.close)
            last_first.callback(self._workers.close)

    def __repr__(self) -> str:
        m, opened = self.manifest, self._opened
        tile = "auto" if self._tile is None else f"{self._tile[0]}x{self._tile[1]}"
        if m.size_px is not None:
            tile = f"{m.size_px[0]}x{m.size_px[1]} (the model's)"
        inferred = ", no manifest: inferred" if opened.inferred else ""
        refused = f" ({opened.refused_by} refuses this file)" if opened.refused_by else ""
        return (
            f"<{type(self).__name__} {m.name} x{m.scale} {m.precision}{opened.settings.suffix}, "
            f"{self.backend} on {self.device}{refused}, tile {tile}, {cut_text(m)}, "
            f"{m.channels} channels {m.dtype}{inferred}>"
        )

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "an Upscaler belongs to its process and cannot be pickled; open one in each process "
            "(ProcessPoolExecutor: in its `initializer`), or use threads: one Upscaler serves many"
        )

    @property
    def _steps(self) -> tuple[Step, ...]:
        return (self.step,)

    @property
    def _owners(self) -> tuple[Workers, ...]:
        return (self._workers,)

    def _serve(self, picture: Any, options: PictureOptions | None, call: Call) -> Any:
        if is_on_gpu(picture):
            if options is not None:
                raise UsageError("options= is for pictures on the host, this array is on a GPU")
            return self._pipeline.upscale_on_gpu(picture, None, None, call)
        if options is None and files.is_plane(picture) and self.manifest.channels == 1:
            return files.upscale_plane(self.step, picture, call)
        return super()._serve(picture, options, call)

    def _enlarge(self, rgb: Any, call: Call, out: Any = None) -> Any:
        return self._pipeline.upscale(rgb, call, out)

    def _check_open(self) -> None:
        self._pipeline.check_open()
