"""Open a model for `Upscaler`: where it runs, how pictures are tiled, which file is opened."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from srsdk import models
from srsdk.adoption.adopt import Adopted, adopt
from srsdk.adoption.io import IO
from srsdk.autotune.settings import Settings, choose_settings, streams_of
from srsdk.engines.accelerators.spelling import Accelerator, choose_accelerator, plain_device
from srsdk.engines.backends import installed
from srsdk.engines.devices import choose_gpus
from srsdk.engines.foreign import infer_manifest
from srsdk.engines.protocol import MAX_SLOTS_EACH, Engine
from srsdk.engines.select import choose_backend, open_engine, refuse_gpu_form
from srsdk.errors import ModelError, SrsdkError, UsageError
from srsdk.formats.tensorrt_plan import PLAN_SUFFIX
from srsdk.inference.pipeline import Pipeline
from srsdk.inference.planner import Planner, checked_tile, parse_bytes, positive
from srsdk.inference.precision import Float32Form
from srsdk.inference.self_test import check_once
from srsdk.inference.texture import mix
from srsdk.manifest import Manifest, read_manifest
from srsdk.options import Optimize, Precision

log = logging.getLogger("srsdk")


@dataclass(frozen=True)
class Tiling:
    """How pictures are cut, and how many tiles are in flight; None: chosen automatically."""

    tile: tuple[int, int] | None
    """(height, width) in source pixels."""
    slots: int | None
    """Batches of tiles in flight for each input shape."""
    batch: int | None
    """Tiles computed at once."""

    @classmethod
    def of(
        cls,
        tile: int | tuple[int, int] | Literal["auto"],
        slots: int | Literal["auto"],
        batch: int | Literal["auto"],
    ) -> Tiling:
        """Check the arguments of `Upscaler`.

        Raises:
            UsageError: not a size or a number above 0.
        """
        return cls(
            checked_tile(tile),
            None if slots == "auto" else positive("slots", slots),
            None if batch == "auto" else positive("batch", batch),
        )


def check_flags(**flags: object) -> None:
    """Refuse what is neither True nor False: `health="no"` would mean yes.

    Raises:
        UsageError: names the argument.
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise UsageError(f"{name} is {value!r}, expected True or False")


@dataclass(frozen=True)
class Placement:
    """Which backend and devices run a model, and what they may use."""

    backend: str
    """`openvino`, `onnxruntime` or `tensorrt`."""
    is_auto: bool
    """The user named no backend, so on a CPU the other one may open what this one refuses."""
    gpus: tuple[int, ...]
    """Indexes of the GPUs; empty: the CPU."""
    threads: int | None
    """CPU threads of the backend; None: its own choice."""
    streams: int
    """Tiles that a CPU computes at the same time."""
    max_memory_bytes: int | None
    """Device memory for tiles on each GPU; None: all that is free."""
    accelerator: Accelerator | None = None
    """A device of OpenVINO or a provider of ONNX Runtime that was named; None: CPU or `gpus`."""
    is_any_device: bool = False
    """The user named no device."""

    @classmethod
    def of(
        cls,
        path: Path,
        *,
        device: str,
        devices: Sequence[int] | None,
        backend: str,
        provider: str | None,
        threads: int | None,
        optimize: Optimize,
        max_memory: int | str | None,
    ) -> Placement:
        """Choose backend and devices for a model file; the arguments are those of `Upscaler`.

        Raises:
            UsageError: arguments that contradict each other or the file.
            BackendError: the backend is not installed.
        """
        if threads is not None:
            positive("threads", threads)
        streams, limit = streams_of(optimize, threads), parse_bytes(max_memory)
        is_engine = path.suffix == PLAN_SUFFIX
        accelerator = choose_accelerator(device, devices, backend, provider, is_engine=is_engine)
        if accelerator is not None:
            if limit is not None:
                raise UsageError(
                    f"max_memory bounds the memory of CUDA GPUs, this runs on {accelerator}: use "
                    "tile="
                )
            chosen = choose_backend(accelerator.backend)
            return cls(chosen, False, (), threads, streams, None, accelerator)
        device, backend = plain_device(device, devices, backend, provider)
        gpus = choose_gpus(device, devices, is_engine=is_engine)
        if limit is not None and not gpus:
            raise UsageError("max_memory bounds device memory, but this runs on a CPU: use tile=")
        chosen = choose_backend(backend, on_gpu=bool(gpus), is_engine=is_engine)
        is_any = device == "auto" and devices is None
        return cls(chosen, backend == "auto", gpus, threads, streams, limit, is_any_device=is_any)

    @property
    def is_cpu(self) -> bool:
        """Whether a plain CPU engine runs the model."""
        return not self.gpus and self.accelerator is None

    @property
    def slots(self) -> int:
        """Slots that keep the devices busy, as far as is known before a model is open."""
        # on a CPU one tile is cut or pasted while the others compute
        return MAX_SLOTS_EACH * len(self.gpus) if self.gpus else self.streams + 1


@dataclass(frozen=True)
class OpenModel:
    """A model that is ready to run; whoever holds it closes the pipeline, then the engine."""

    settings: Settings
    """Which file was opened, and in which precision."""
    manifest: Manifest
    """The file's metadata, inferred where it has none."""
    engine: Engine
    """The file, opened."""
    pipeline: Pipeline
    """One picture through the engine."""
    inferred: bool
    """The file has no manifest; what it is was found by its graph and by running it."""
    refused_by: str
    """The backend that could not open the file, so that another one did; empty: none."""


def open_model(
    path: Path,
    placement: Placement,
    tiling: Tiling,
    *,
    io: IO | None,
    is_named: bool,
    scale: int | None,
    precision: Precision,
    tune: bool,
    texture: float | None,
    health: bool,
    self_test: bool,
    cache: bool,
) -> OpenModel:
    """Open a model file; `precision` and the arguments after it are those of `Upscaler`.

    `io`: what a file without a manifest reads and writes; None: all is found out.
    `is_named`: the user gave a shipped name, so that `auto` may open its INT8 file instead.
    `scale`: what the model's must be; None: any.

    Raises:
        UsageError: arguments that contradict each other or the file.
        ModelError: the file is no usable model.
        SelfTestError: its results on this machine differ from those that its manifest promises.
        BackendError: no memory, no GPU, or a library that does not load.
    """
    _check_precision(precision, tune, texture, placement)
    _check_scale(path, scale)
    settings = choose_settings(
        path,
        precision,
        tune=tune,
        backend=placement.backend,
        threads=placement.threads,
        # without its self-test nothing shows that INT8 is right on this machine, and a pass that
        # is remembered may not decide it: the same call would give another picture tomorrow
        may_replace=is_named and self_test and texture is None and placement.is_cpu,
        on_gpu=bool(placement.gpus),
        any_device=placement.is_any_device,
    )
    if settings.device:
        chosen = choose_accelerator(settings.device, None, placement.backend, None, is_engine=False)
        placement = replace(placement, accelerator=chosen)
    opened = partial(
        _open,
        scale=scale,
        io=io,
        placement=placement,
        tiling=tiling,
        texture=texture,
        health=health,
        tested=self_test,
        cache=cache,
    )
    try:
        return opened(settings)
    except ModelError as error:
        if settings.float32_path is None:
            raise
        return opened(settings.without_int8(error))


def _check_precision(
    precision: str, tune: bool, texture: float | None, placement: Placement
) -> None:
    if tune and not placement.is_cpu:
        where = placement.accelerator or "a GPU"
        raise UsageError(
            f"tune chooses the device, or ways of the CPU, but this runs on {where}: omit tune"
        )
    if precision == "bf16" and placement.accelerator is not None:
        raise UsageError(
            f"precision='bf16' is for device='cpu', this runs on {placement.accelerator}: "
            "precision='fp16' opens the FP16 file of the same weights"
        )
    if precision in ("int8", "fp16") and texture is not None:
        raise UsageError(
            f"texture mixes float32 files: omit precision={precision!r}, or open NAME_texture"
        )


def _check_scale(path: Path, scale: int | None) -> None:
    """Refuse a scale that the model does not have, and name what has it.

    Raises:
        UsageError: another scale.
    """
    if scale is not None and (not isinstance(scale, int) or isinstance(scale, bool)):
        raise UsageError(f"scale is {scale!r}, expected a whole number such as 4, or None")
    manifest = read_manifest(path) if scale is not None else None
    if manifest is not None:
        _check_same_scale(manifest, scale)


def _check_same_scale(manifest: Manifest, scale: int | None) -> None:
    if scale is None or manifest.scale == scale:
        return
    stem = manifest.name.replace(f"_x{manifest.scale}", f"_x{scale}")
    other = f"open {stem!r}, or " if stem in models.shipped() and stem != manifest.name else ""
    raise UsageError(
        f"{manifest.name} enlarges {manifest.scale} times, got scale={scale!r}: {other}pass "
        f"options=srsdk.PictureOptions(scale={scale!r}) with each picture"
    )


_HAS_FORM = (
    "io= says what a file without a manifest reads and writes, and this one has a manifest: omit "
    "io=, or open the original file"
)
_ENGINE_FORM = (
    "io= is for .onnx files: the boundary of an engine was built into it; adopt the .onnx file "
    "with `srsdk adopt`, and build the engine from the result"
)


def _adopted(path: Path, io: IO, placement: Placement, content: bytes | None) -> Adopted | None:
    """Adopt a file without a manifest, and say what was found; trial runs are on the CPU."""
    # ONNX Runtime takes every size at once, OpenVINO compiles each
    backend = "onnxruntime" if installed("onnxruntime") else placement.backend
    adopted = adopt(
        path,
        io,
        lambda graph: open_engine(
            path,
            backend,
            threads=placement.threads,
            graph=graph,
            # a file that only the other library reads is tried with that one
            allow_fallback=True,
            cache=False,
        ),
        backend,
        content,
    )
    if adopted is None:
        return None
    log.log(logging.WARNING if adopted.assumed else logging.INFO, "%s", adopted.sentence(path))
    return adopted


def _open(
    settings: Settings,
    *,
    scale: int | None,
    io: IO | None,
    placement: Placement,
    tiling: Tiling,
    texture: float | None,
    health: bool,
    tested: bool,
    cache: bool,
) -> OpenModel:
    path = settings.path
    manifest = read_manifest(path)
    inferred = manifest is None
    accelerator = placement.accelerator
    if placement.is_cpu or (accelerator is not None and accelerator.uses_cpu):
        refuse_gpu_form(path, manifest)
    graph, manifest = mix(path, manifest, texture)
    if manifest is None and path.suffix != PLAN_SUFFIX:
        adopted = _adopted(path, io or IO(), placement, graph)
        if adopted is not None:
            graph, manifest = adopted.graph, adopted.manifest
            _check_same_scale(manifest, scale)
    elif io is not None:
        raise UsageError(_HAS_FORM if manifest else _ENGINE_FORM)
    open_file = partial(
        open_engine,
        gpus=placement.gpus,
        accelerator=accelerator,
        threads=placement.threads,
        streams=placement.streams,
        max_memory=placement.max_memory_bytes,
        precision=settings.precision,
        cache=cache,
    )
    # an INT8 file that `auto` chose has the float32 file as its fallback, not the other backend
    may_fall_back = placement.is_auto and settings.float32_path is None
    engine = open_file(path, placement.backend, graph=graph, allow_fallback=may_fall_back)
    try:
        m = manifest or infer_manifest(path, engine)
        planner = Planner(engine, m, tiling.tile, tiling.batch, settings.tile_budgets_px)
        # INT8 would cost a picture with more than 8 bits the precision that it came for
        source, of_source = path, m
        if settings.float32_path is not None:
            source = settings.float32_path
            of_source = read_manifest(source) or m
        deep = Float32Form(
            source,
            graph,
            of_source,
            lambda form: open_file(source, engine.backend, graph=form),
            tiling.slots,
        )
        pipeline = Pipeline(engine, m, planner, tiling.slots, deep=deep, health=health)
        if tested:
            check_once(path, engine, m, settings.precision)
    except SrsdkError:
        engine.close()
        raise
    refused_by = "" if engine.backend == placement.backend else placement.backend
    return OpenModel(settings, m, engine, pipeline, inferred, refused_by)
