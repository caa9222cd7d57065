"""The one seam of the runtime: what an engine is, and the only place that chooses one.

An Engine is a model file opened on one device by one backend. A Slot is one reusable lane through
it for tiles of one shape. Everything above this seam is plain numpy; everything below it belongs to
one library.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from srsdk.errors import BackendError, ModelError, UsageError

log = logging.getLogger("srsdk")

BACKENDS = ("openvino", "onnxruntime")
"""Of CPUs, in the order in which `auto` tries them: OpenVINO was measured faster (README)."""
ALL_BACKENDS = (*BACKENDS, "tensorrt")
MAX_SLOTS_EACH = 4
"""Slots of one shape on one GPU: more were never needed to hide copies and the host's work."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model file's graph says of its input and output."""

    dtype: str
    """`uint8` or `float32`, the same on both sides."""
    input_shape: tuple[int | None, ...]
    """Four dimensions; None: any."""
    output_shape: tuple[int | None, ...]
    """Four dimensions; None: any."""
    latent: int = 0
    """Channels of a second input, `eps`, (N, latent, H, W) float32, beside which there is a second
    output, `confidence`, (N, H * scale, W * scale, 1) float32; 0: there is neither."""

    def noise_shape(self, input_shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return the shape of `eps` beside a (N, H, W, C) input."""
        batch, height, width = input_shape[:3]
        return (batch, self.latent, height, width)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """What an engine knows of the memory of its device."""

    free_bytes: int
    """Free now or held by the engine's slots; at most `max_memory`."""
    shared_bytes: int | None
    """What all slots of a shape share; None: the library tells it only after it has run."""


class Slot(Protocol):
    """One reusable lane: fill `input`, `submit()`, `wait()` for the output."""

    input: npt.NDArray[Any]
    """The input of the model, for the shape that the slot was made for. The caller writes it."""
    timed: bool
    """Note the times of the next run; costs some microseconds."""

    def submit(self) -> None:
        """Start computing; returns at once. The input must not be written until `wait`."""

    def wait(self) -> npt.NDArray[Any]:
        """Block until the output is there; it belongs to the slot, until its next `submit`.

        Harmless when repeated: after a failure, or an interrupt while it waited, the caller waits
        again until the slot rests.

        Raises:
            BackendError: the library failed.
        """

    def times(self) -> dict[str, float]:
        """Return the milliseconds of the last run, which was `timed`: h2d, execute, d2h."""

    def close(self) -> None:
        """Give everything back; harmless when repeated."""


class SamplingSlot(Slot, Protocol):
    """What `slot()` makes where the signature has a `latent`."""

    noise: npt.NDArray[Any]
    """The input `eps`; zeros (the mean) until the caller writes it, by the rules of `input`."""
    confidence: npt.NDArray[Any]
    """The output `confidence` after `wait`; it belongs to the slot, until its next `submit`."""


class Engine(Protocol):
    """A model file opened on one device by one backend."""

    backend: str
    """The backend's name."""
    device: str
    """The device's name, such as `cpu`."""
    signature: Signature
    """What the graph says of its input and output."""

    profiles: tuple[tuple[int, int, int], ...]
    """The only (batch, height, width) of an input that it accepts; empty: any."""

    def slot(self, input_shape: tuple[int, ...]) -> Slot:
        """Make a slot for one input shape (batch, then as in `signature`).

        Raises:
            OutOfMemoryError: there is not enough memory; nothing stays allocated.
            BackendError: the library refuses the shape.
        """

    def wanted_slots(self, input_shape: tuple[int, ...]) -> int:
        """Return how many slots keep the device busy, as far as is known by now."""

    def device_memory(self, input_shape: tuple[int, ...]) -> DeviceMemory | None:
        """Return what is known of the device's memory; None on a CPU."""

    def close(self) -> None:
        """Give everything back; harmless when repeated."""


def installed(backend: str) -> bool:
    """Say whether the backend's library can be found, without importing it."""
    return importlib.util.find_spec(backend) is not None


def choose_backend(backend: str, *, on_gpu: bool = False, is_engine: bool = False) -> str:
    """Return the backend that `auto` stands for, or check the named one.

    Raises:
        UsageError: no such backend, or not one for this file or device.
        BackendError: it is not installed.
    """
    if backend != "auto" and backend not in ALL_BACKENDS:
        raise UsageError(f"backend {backend!r} is not one of auto, {', '.join(ALL_BACKENDS)}")
    if is_engine or backend == "tensorrt":
        if not is_engine:
            raise UsageError(
                "backend tensorrt takes .engine files: python -m export SOURCE -o FOLDER "
                "--precision fp16 --target rtx"
            )
        if backend not in ("auto", "tensorrt"):
            raise UsageError(f"an .engine file runs by tensorrt, not by backend {backend!r}")
        return "tensorrt"
    if on_gpu:
        if backend == "openvino":
            raise UsageError("backend openvino runs on CPUs; on a GPU: backend='onnxruntime'")
        if not installed("onnxruntime"):
            raise BackendError("onnxruntime is not installed: pip install 'srsdk[cuda]'")
        return "onnxruntime"
    return _choose_for_cpu(backend)


def _choose_for_cpu(backend: str) -> str:
    if backend == "auto":
        found = [name for name in BACKENDS if installed(name)]
        if not found:
            raise BackendError("no engine is installed: pip install 'srsdk[cpu]'")
        log.info("backend auto: %s on cpu (installed: %s)", found[0], ", ".join(found))
        return found[0]
    if not installed(backend):
        raise BackendError(f"backend {backend} is not installed: pip install 'srsdk[cpu]'")
    return backend


def open_engine(
    path: Path,
    backend: str,
    *,
    gpus: Sequence[int] = (),
    threads: int | None = None,
    streams: int = 1,
    max_memory: int | None = None,
    precision: str = "auto",
    graph: bytes | None = None,
    or_other: bool = False,
) -> Engine:
    """Open a model file with a backend that `choose_backend` returned.

    Args:
        path: an `.onnx` or `.engine` file.
        backend: its name.
        gpus: indexes of the GPUs; none: the CPU.
        threads: of a CPU backend, in all; None: its own choice.
        streams: tiles that a CPU computes at the same time, each by its share of the threads.
        max_memory: device memory in bytes that it may use on each GPU; None: all there is.
        precision: `auto`, what the file says; or `bf16`, which OpenVINO computes a float32 file in
            where the processor has it.
        graph: what to open instead of an `.onnx` file's bytes: a form derived from them.
        or_other: the user named no backend: on a CPU, a file that this one refuses is opened by
            the other, which is logged.

    Raises:
        UsageError: `bf16` by another backend.
        ModelError: the library cannot read the file, or cannot run it on this machine.
        EngineMismatch: a TensorRT engine that cannot run here.
        BackendError: no GPU, or its libraries do not load.
    """
    if precision != "auto" and (gpus or backend != "openvino"):
        raise UsageError(f"precision {precision!r} needs backend openvino, got {backend}")
    if gpus:
        return _open_on_gpus(path, backend, gpus, max_memory, graph)
    from srsdk.engines.cpu import open_on_cpu

    return open_on_cpu(
        path,
        backend,
        or_other=or_other,
        threads=threads,
        streams=streams,
        precision=precision,
        graph=graph,
    )


def _open_on_gpus(
    path: Path,
    backend: str,
    gpus: Sequence[int],
    max_memory: int | None,
    graph: bytes | None,
) -> Engine:
    from srsdk.engines.several import open_several

    if backend == "tensorrt":
        from srsdk.engines.tensorrt import open_tensorrt

        return open_several(lambda gpu: open_tensorrt(path, gpu, max_memory=max_memory), gpus)
    from srsdk.engines.onnxruntime_cuda import open_onnxruntime_cuda

    return open_several(
        lambda gpu: open_onnxruntime_cuda(path, gpu, max_memory=max_memory, graph=graph), gpus
    )


def make_signature(
    path: Path,
    dtypes: tuple[str, str],
    input_shape: tuple[int | None, ...],
    output_shape: tuple[int | None, ...],
    latent: int = 0,
) -> Signature:
    """Check what a library says of a graph.

    Raises:
        ModelError: it is no image network.
    """
    if len(input_shape) != 4 or len(output_shape) != 4:
        raise ModelError(
            f"{path} is no image model: it maps {len(input_shape)} dimensions to "
            f"{len(output_shape)}, expected 4 and 4 (batch, height, width, channels)"
        )
    if dtypes[0] != dtypes[1] or dtypes[0] not in ("uint8", "float32"):
        raise ModelError(
            f"{path} is no image model: it maps {dtypes[0]} to {dtypes[1]}, "
            "expected uint8 to uint8 or float32 to float32"
        )
    return Signature(dtypes[0], input_shape, output_shape, latent)


def check_single(path: Path, inputs: int, outputs: int) -> None:
    """Refuse graphs with several inputs or outputs.

    Raises:
        ModelError: not exactly one of each.
    """
    if (inputs, outputs) != (1, 1):
        raise ModelError(
            f"{path} is no image model: it has {inputs} inputs and {outputs} outputs, "
            "expected one of each"
        )


EPS, CONFIDENCE = "eps", "confidence"

_SAMPLES = (["image", EPS], ["upscaled", CONFIDENCE])
"""Names of the inputs and outputs of a network that samples."""


def latent_of(
    path: Path, inputs: list[str], outputs: list[str], last_input: tuple[int | None, ...]
) -> int:
    """Return the channels of the noise that a graph takes; 0: one input and one output.

    Args:
        path: the file, for the message.
        inputs: names.
        outputs: names.
        last_input: shape of the last input.

    Raises:
        ModelError: several inputs or outputs, and no network that samples.
    """
    channels = last_input[1] if len(last_input) == 4 else None
    if (inputs, outputs) == _SAMPLES and channels:
        return channels
    check_single(path, len(inputs), len(outputs))
    return 0
