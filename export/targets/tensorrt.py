"""Build engines with TensorRT for RTX or TensorRT; both share the same builder interface.

Networks are strongly typed: the graph sets the precision, not the builder. TensorRT for RTX builds
without a GPU; TensorRT times its kernels and needs the GPU that the engine is for. The `tensorrt`
path makes the same calls but was not run where this was written.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import onnx
from tqdm import tqdm

from export.errors import ExportError
from export.graph.wrapper import INPUT
from export.targets import lint
from export.targets.atomic_output import signals_deferred
from srsdk.engines.tensorrt_library import made, make_logger
from srsdk.formats.tensorrt_plan import MAX_TEXT_BYTES

MODULES = {"rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
MIN_TENSORRT = 11
NO_GPU_ECHO = ("cudaError 35", "Error reading CUDA GPU properties")
"""Parts of a second message that every error causes without a driver; unrelated to the fault."""


class EngineBuildError(ExportError):
    """TensorRT could not build the engine; the message quotes its reason."""


@dataclass(frozen=True)
class Library:
    """An imported TensorRT flavour."""

    flavour: str
    """`rtx` or `tensorrt`."""
    module: Any
    """Python module."""
    version: str
    """Exact version; engines do not open in any other."""


def open_library(flavour: str) -> Library:
    """Import a TensorRT flavour.

    Raises:
        ExportError: it is not installed or too old; the message names the command to install it.
    """
    name = MODULES[flavour]
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ExportError(
            f"engines of {flavour} need {name} ({error}): pip install 'srsdk[{flavour}]'"
        ) from error
    version = str(module.__version__)
    if flavour == "tensorrt" and int(version.partition(".")[0]) < MIN_TENSORRT:
        raise ExportError(
            f"tensorrt is {version}, expected {MIN_TENSORRT} or newer (strongly typed networks "
            "only): pip install 'srsdk[tensorrt]'"
        )
    return Library(flavour, module, version)


def build_engine(
    library: Library,
    model: onnx.ModelProto,
    manifest_text: str,
    *,
    profiles: Sequence[tuple[int, int, int]],
    sms: tuple[int, ...],
    version_compatible: bool = False,
    show: bool | None = None,
) -> bytes:
    """Build one plan; Ctrl-C stops it at the builder's next step.

    Args:
        library: result of `open_library`.
        model: the graph, in the precision of the engine.
        manifest_text: becomes the network's name, which stays readable in the plan.
        profiles: fixed input shapes, (batch, height, width).
        sms: GPU architectures (SM numbers) for `rtx`; empty: the library's portable default.
        version_compatible: let later versions of `tensorrt` and its lean runtime open the plan.
        show: draw a progress bar; None: only if stderr is a terminal.

    Raises:
        LintError: the graph violates a rule.
        EngineBuildError: TensorRT cannot build it.
    """
    if len(manifest_text) > MAX_TEXT_BYTES:
        raise EngineBuildError(
            f"the manifest has {len(manifest_text):,} characters, an engine holds at most "
            f"{MAX_TEXT_BYTES:,}; shorten --license or --training-data"
        )
    lint.check(model, sms if library.flavour == "rtx" else ())
    cancelled = threading.Event()
    with tqdm(desc="engine", unit="step", leave=False, disable=not _shown(show)) as bar:
        job = _Job(
            library, model, manifest_text, tuple(profiles), sms, bar, cancelled, version_compatible
        )
        # the builder blocks its thread in C++; this thread stays free to receive Ctrl-C
        with ThreadPoolExecutor(1, thread_name_prefix="srsdk-builder") as pool:
            futures = []
            try:
                # interrupted while it starts a thread or joins one, Python loses that thread: it
                # would still be building when the process ends, and abort it
                with signals_deferred():
                    futures.append(pool.submit(_build, job))
                return futures[0].result()
            except KeyboardInterrupt:
                cancelled.set()
                with signals_deferred():
                    wait(futures)
                raise


@dataclass(frozen=True)
class _Job:
    library: Library
    model: onnx.ModelProto
    manifest_text: str
    profiles: tuple[tuple[int, int, int], ...]
    sms: tuple[int, ...]
    bar: Any
    cancelled: threading.Event
    version_compatible: bool = False


def _build(job: _Job) -> bytes:
    trt = job.library.module
    log = make_logger(trt, forward=False)
    builder = made(log, "no builder", trt.Builder, error=EngineBuildError)
    # unlimited: the first line is the cause
    with log.lines.collect(None) as lines:
        try:
            plan = _build_with(job, builder, log, lines)
        except EngineBuildError:
            raise
        except RuntimeError as error:
            raise EngineBuildError(
                _sentence("the builder failed", [*_causes(lines), str(error)])
            ) from error
    if plan is None:
        if job.cancelled.is_set():
            raise EngineBuildError("the build was cancelled")
        raise EngineBuildError(_sentence("the builder failed", _causes(lines)))
    return bytes(plan)


def _build_with(job: _Job, builder: Any, log: Any, lines: Sequence[str]) -> Any:
    """Return the plan; None: the builder failed or was cancelled."""
    trt = job.library.module
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(job.model.SerializeToString()):
        texts = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
        raise EngineBuildError(_sentence("the parser rejects the graph", texts or _causes(lines)))
    network.name = job.manifest_text
    config = builder.create_builder_config()
    _add_profiles(job, builder, config, lines)
    _set_targets(job, config)
    _set_flags(job, config)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    monitor = _make_monitor(trt, job.bar, job.cancelled)
    config.progress_monitor = monitor
    return builder.build_serialized_network(network, config)


def _add_profiles(job: _Job, builder: Any, config: Any, lines: Sequence[str]) -> None:
    shape = [d.dim_value for d in job.model.graph.input[0].type.tensor_type.shape.dim]
    channels_last = shape[3] in (1, 3)
    for batch, height, width in job.profiles:
        channels = shape[3] if channels_last else shape[1]
        sizes = (
            (batch, height, width, channels) if channels_last else (batch, channels, height, width)
        )
        fixed = tuple(have or want for have, want in zip(shape, sizes, strict=True))
        if fixed != sizes:
            raise EngineBuildError(
                f"the network takes {shape} only, the profile asks for {list(sizes)}; "
                "give the network's size with --profiles"
            )
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT, sizes, sizes, sizes)
        for port in job.model.graph.input[1:]:
            # noise of a vae: (N, latent, H, W)
            latent = port.type.tensor_type.shape.dim[1].dim_value
            noise = (batch, latent, height, width)
            profile.set_shape(port.name, noise, noise, noise)
        if config.add_optimization_profile(profile) < 0:
            raise EngineBuildError(_sentence(f"profile {sizes} is rejected", _causes(lines)))


def _set_targets(job: _Job, config: Any) -> None:
    if job.library.flavour != "rtx" or not job.sms:
        return
    capabilities = job.library.module.ComputeCapability
    known = {n.removeprefix("SM"): n for n in capabilities.__members__ if n.startswith("SM")}
    unknown = [sm for sm in job.sms if str(sm) not in known]
    if unknown:
        raise EngineBuildError(
            f"TensorRT for RTX {job.library.version} does not build for SM {unknown}, "
            f"only for {', '.join(known)}"
        )
    config.num_compute_capabilities = len(job.sms)
    for index, sm in enumerate(job.sms):
        config.set_compute_capability(getattr(capabilities, known[str(sm)]), index)


def _set_flags(job: _Job, config: Any) -> None:
    if not job.version_compatible:
        return
    flags = job.library.module.BuilderFlag
    config.set_flag(flags.VERSION_COMPATIBLE)
    # a plan with its own lean runtime opens only where code from plans is allowed: never in srsdk
    config.set_flag(flags.EXCLUDE_LEAN_RUNTIME)


def _make_monitor(trt: Any, bar: Any, cancelled: threading.Event) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Updates the progress bar; returns after every step whether to continue."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            bar.total = (bar.total or 0) + steps

        def step_complete(self, name: str, step: int) -> bool:
            bar.update()
            return not cancelled.is_set()

        def phase_finish(self, name: str) -> None:
            """Nothing to show; the interface requires the method."""

    return Monitor()


def _parser_error(error: Any) -> str:
    node = error.node_name() or error.node_operator()
    return f"{node}: {error.desc()}" if node else str(error.desc())


def _sentence(what: str, texts: Sequence[str]) -> str:
    first = " ".join(texts[0].split()) if texts else "it gives no reason"
    return f"{what}: {first[:500]}"


def _causes(lines: Sequence[str]) -> list[str]:
    """Return the logged lines that are not an echo."""
    return [line for line in lines if not any(echo in line for echo in NO_GPU_ECHO)]


def _shown(show: bool | None) -> bool:
    return sys.stderr.isatty() if show is None else show


def seconds_since(began: float) -> float:
    """Return the seconds since a `time.perf_counter()` value, rounded to hundredths."""
    return round(time.perf_counter() - began, 2)
