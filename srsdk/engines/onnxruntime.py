"""Run ONNX models on the CPU with ONNX Runtime."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# onnxruntime 1.29 and later report usage to their vendor unless this is set before the import
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from srsdk.engines.protocol import (
    CONFIDENCE,
    EPS,
    VALUES,
    Signature,
    further_inputs,
    make_signature,
)
from srsdk.errors import BackendError, ModelError
from srsdk.system.threads import started_pool

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
ERRORS_ONLY, FATAL_ONLY = 3, 4


class OnnxRuntimeEngine:
    """An ONNX file opened on the CPU with ONNX Runtime."""

    backend = "onnxruntime"
    device = "cpu"
    profiles: tuple[tuple[int, int, int], ...] = ()
    few_shapes = False

    def __init__(
        self, path: Path, *, threads: int | None, streams: int = 1, graph: bytes | None = None
    ) -> None:
        self._streams = streams
        options = ort.SessionOptions()
        # its errors are raised, too
        options.log_severity_level = FATAL_ONLY
        # an idle thread pool that spins takes CPU time from the application
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None or streams > 1:
            # threads for each stream: a worker computes on its own thread and the session's pool
            options.intra_op_num_threads = max(1, (threads or streams) // streams)
        with translated(f"{path}: ONNX Runtime cannot open this model", ModelError):
            self._session = ort.InferenceSession(
                readable(path) if graph is None else graph,
                options,
                providers=["CPUExecutionProvider"],
                # to the same provider: it prints to stdout and fails again
                enable_fallback=0,
            )
        self.signature: Signature = session_signature(path, self._session)
        # one worker for each stream: the caller's thread cuts and pastes tiles while they compute
        self._worker = started_pool(streams, "srsdk-onnxruntime")

    def slot(self, input_shape: tuple[int, ...]) -> OnnxRuntimeSlot:
        """Make a slot; the session accepts any shape."""
        return OnnxRuntimeSlot(self._session, self._worker, self.signature, input_shape)

    def wanted_slots(self, input_shape: tuple[int, ...]) -> int:
        """Return one more than the streams: its tile is cut or pasted while the others compute."""
        return self._streams + 1

    def device_memory(self, input_shape: tuple[int, ...]) -> None:
        """Return None: the model runs in host memory."""

    def close(self) -> None:
        """Stop the workers."""
        self._worker.shutdown(wait=True)


class OnnxRuntimeSlot:
    """An I/O binding on numpy arrays; from the second run on, the output is written in place."""

    def __init__(
        self,
        session: Any,
        worker: ThreadPoolExecutor,
        signature: Signature,
        input_shape: tuple[int, ...],
    ) -> None:
        self.timed = False
        self._run_ms = 0.0
        self.input: npt.NDArray[Any] = np.zeros(input_shape, signature.dtype)
        self._output: npt.NDArray[Any] | None = None
        self._session = session
        self._worker = worker
        self._binding = session.io_binding()
        self._input_name = session.get_inputs()[0].name
        self._output_name = session.get_outputs()[0].name
        self._future: Future[npt.NDArray[Any]] | None = None
        self._samples, self._has_values = signature.latent > 0, signature.values > 0
        if self._samples:
            self.noise: npt.NDArray[Any] = np.zeros(signature.noise_shape(input_shape), np.float32)
        if self._has_values:
            self.values: npt.NDArray[Any] = np.zeros(signature.values, np.float32)
        self._bind_inputs()

    def submit(self) -> None:
        """Start the run on a worker of the engine."""
        try:
            self._future = self._worker.submit(self._run)
        except RuntimeError as error:
            raise BackendError("this Upscaler is closed") from error

    def wait(self) -> npt.NDArray[Any]:
        """Wait for the output."""
        assert self._future is not None
        return self._future.result()

    def times(self) -> dict[str, float]:
        """Return how long the last run took on the worker."""
        return {"execute": self._run_ms}

    def close(self) -> None:
        """Drop the binding and its buffers."""
        self._binding = None

    def _bind_inputs(self) -> None:
        self._binding.bind_cpu_input(self._input_name, self.input)
        if self._samples:
            self._binding.bind_cpu_input(EPS, self.noise)
        if self._has_values:
            self._binding.bind_cpu_input(VALUES, self.values)

    def _run(self) -> npt.NDArray[Any]:
        began_s = time.perf_counter()
        try:
            return self._bound_run()
        finally:
            self._run_ms = 1000 * (time.perf_counter() - began_s)

    def _bound_run(self) -> npt.NDArray[Any]:
        with translated("ONNX Runtime failed"):
            if self._output is None:
                # the first run reveals the output shape; later runs write into that array
                names = [self._output_name, *([CONFIDENCE] if self._samples else [])]
                for name in names:
                    self._binding.bind_output(name, "cpu")
                self._session.run_with_iobinding(self._binding)
                outputs = self._binding.copy_outputs_to_cpu()
                for name, output in zip(names, outputs, strict=True):
                    target = (output.dtype.type, output.shape, output.ctypes.data)
                    self._binding.bind_output(name, "cpu", 0, *target)
                self._output = outputs[0]
                if self._samples:
                    self.confidence: npt.NDArray[Any] = outputs[1]
            else:
                self._session.run_with_iobinding(self._binding)
        return self._output


def readable(path: Path) -> str | bytes:
    """Return the path, or the file's bytes if its name is not UTF-8, as the library requires."""
    try:
        return os.fspath(path).encode().decode()
    except UnicodeEncodeError:
        return path.read_bytes()


def session_signature(path: Path, session: Any) -> Signature:
    """Return the signature of a session's graph.

    Raises:
        ModelError: it is not an image model.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = [[str(port.name) for port in ports] for ports in (inputs, outputs)]
    last = onnx_shape(inputs[-1]) if inputs else ()
    # first: it refuses graphs without inputs or outputs
    further = further_inputs(path, names[0], names[1], last)
    return make_signature(
        path,
        (onnx_dtype(inputs[0]), onnx_dtype(outputs[0])),
        onnx_shape(inputs[0]),
        onnx_shape(outputs[0]),
        further,
    )


def onnx_dtype(port: Any) -> str:
    """Return the numpy type name of an input or output."""
    return _DTYPES.get(port.type, str(port.type))


def onnx_shape(port: Any) -> tuple[int | None, ...]:
    """Return the dimensions of an input or output; None: any."""
    return tuple(d if isinstance(d, int) else None for d in port.shape or [])


@contextmanager
def translated(what: str, kind: type[Exception] = BackendError) -> Iterator[None]:
    """Translate ONNX Runtime's exceptions into srsdk's, keeping the cause.

    Their only common base class is `Exception`.
    """
    try:
        yield
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise kind(f"{what}: {first}") from error
