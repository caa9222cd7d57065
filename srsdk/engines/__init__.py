"""The one seam of the runtime: what an engine is, and the only place that chooses one.

An Engine is a model file opened on one device by one backend. A Slot is one reusable lane through
it for tiles of one shape. Everything above this seam is plain numpy; everything below it belongs to
one library.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from srsdk.errors import BackendError, EngineMismatch, ModelError, UsageError

log = logging.getLogger("srsdk")

BACKENDS = ("openvino", "onnxruntime")
"""In the order in which `auto` tries them: OpenVINO was measured faster (README, "Speed")."""
DEVICES = ("auto", "cpu")


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model file's graph says of its input and output."""

    dtype: str
    """`uint8` or `float32`, the same on both sides."""
    input_shape: tuple[int | None, ...]
    """Four dimensions; None: any."""
    output_shape: tuple[int | None, ...]
    """Four dimensions; None: any."""


class Slot(Protocol):
    """One reusable lane: fill `input`, `submit()`, `wait()` for the output."""

    input: npt.NDArray[Any]
    """The input of the model, for the shape that the slot was made for. The caller writes it."""

    def submit(self) -> None:
        """Start computing; returns at once. The input must not be written until `wait`."""

    def wait(self) -> npt.NDArray[Any]:
        """Block until the output is there; it belongs to the slot, until its next `submit`.

        Harmless when repeated: after a failure, or an interrupt while it waited, the caller waits
        again until the slot rests.

        Raises:
            BackendError: the library failed.
        """

    def close(self) -> None:
        """Give everything back; harmless when repeated."""


class Engine(Protocol):
    """A model file opened on one device by one backend."""

    backend: str
    """The backend's name."""
    device: str
    """The device's name, such as `cpu`."""
    signature: Signature
    """What the graph says of its input and output."""

    def slot(self, input_shape: tuple[int, ...]) -> Slot:
        """Make a slot for one input shape (batch, then as in `signature`).

        Raises:
            BackendError: the library refuses the shape, or is out of memory.
        """

    def close(self) -> None:
        """Give everything back; harmless when repeated."""


def installed(backend: str) -> bool:
    """Say whether the backend's library can be found, without importing it."""
    return importlib.util.find_spec(backend) is not None


def choose_backend(backend: str, device: str) -> str:
    """Return the backend that `auto` stands for, or check the named one.

    Raises:
        UsageError: no such backend or device.
        BackendError: it is not installed.
    """
    if device not in DEVICES:
        raise UsageError(
            f"device {device!r} is not one of {', '.join(DEVICES)} "
            "(this version runs on CPUs only; GPU engines are on the road map)"
        )
    if backend == "auto":
        found = [name for name in BACKENDS if installed(name)]
        if not found:
            raise BackendError("no engine is installed: pip install 'srsdk[cpu]'")
        log.info("backend auto: %s on cpu (installed: %s)", found[0], ", ".join(found))
        return found[0]
    if backend not in BACKENDS:
        raise UsageError(f"backend {backend!r} is not one of auto, {', '.join(BACKENDS)}")
    if not installed(backend):
        raise BackendError(f"backend {backend} is not installed: pip install 'srsdk[cpu]'")
    return backend


def open_engine(path: Path, backend: str, *, threads: int | None, streams: int = 1) -> Engine:
    """Open an ONNX file with a backend that `choose_backend` returned.

    Args:
        path: the file.
        backend: the backend's name.
        threads: CPU threads in all, or None.
        streams: tiles computed at the same time, each by its share of the threads.

    Raises:
        ModelError: the library cannot read the file.
        EngineMismatch: a TensorRT engine, which this version cannot run.
    """
    if path.suffix == ".engine":
        raise EngineMismatch(
            f"{path}: this version of srsdk runs .onnx files on CPUs; "
            "TensorRT engines cannot be opened yet"
        )
    if backend == "openvino":
        from srsdk.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(path, threads=threads, streams=streams)
    from srsdk.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, threads=threads, streams=streams)


def make_signature(
    path: Path,
    dtypes: tuple[str, str],
    input_shape: tuple[int | None, ...],
    output_shape: tuple[int | None, ...],
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
    return Signature(dtypes[0], input_shape, output_shape)


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
