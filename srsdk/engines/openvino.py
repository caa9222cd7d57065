"""Run ONNX models on the CPU with OpenVINO."""

from __future__ import annotations

import platform
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# `import openvino` sends an event to an analytics service without asking. If the telemetry package
# cannot be imported, it uses a stub (openvino/tools/ovc/telemetry_utils.py). An application that
# imported openvino earlier has made its own choice.
if "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino as ov
    finally:
        del sys.modules["openvino_telemetry"]
else:
    import openvino as ov

from srsdk.engines.backends import advice
from srsdk.engines.protocol import Signature, latent_of, make_signature
from srsdk.errors import BackendError, ModelError

MAX_COMPILED = 8
"""Number of shapes whose compiled models are kept; compiling one takes about 50 ms."""

_DTYPES = {"u8": "uint8", "f32": "float32"}

_COMPILES_ALL = platform.machine().lower() in ("x86_64", "amd64")
"""Whether OpenVINO compiles every model that it can read, as far as known. On ARM64 OpenVINO 2026.4
reads a quantized convolution of bytes that no QuantizeLinear has written, but cannot compile it."""

_CORE = ov.Core()
"""The only Core of this process, never released.

The Core that loads the CPU plugin gives the loading thread an alternate signal stack, whose memory
is freed with the Core. If another thread drops the Core, the first thread keeps the address, and
the next signal kills the process: Python's handlers, Ctrl-C's included, run on that stack.
"""


class OpenVinoEngine:
    """An ONNX file opened on the CPU with OpenVINO, in the file's precision or in bfloat16.

    The model is compiled for each tile shape: a static shape runs 13 % faster than dynamic
    dimensions (32x8 net, 640x360 input, 2 cores).
    """

    backend = "openvino"
    device = "cpu"
    profiles: tuple[tuple[int, int, int], ...] = ()
    few_shapes = False

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None,
        streams: int = 1,
        precision: str = "auto",
        graph: bytes | None = None,
    ) -> None:
        self._streams = streams
        self._path = path
        if precision == "bf16" and "BF16" not in _CORE.get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        ):
            raise BackendError("this processor has no bfloat16 (AVX512_BF16 or AMX): omit bf16")
        with _translated(f"{path}: OpenVINO cannot open this model", ModelError):
            self._model = _CORE.read_model(path if graph is None else graph)
            inputs, outputs = self._model.inputs, self._model.outputs
        names = [[_name(port) for port in ports] for ports in (inputs, outputs)]
        latent = latent_of(path, names[0], names[1], _shape(inputs[-1]) if inputs else ())
        self.signature: Signature = make_signature(
            path,
            (_dtype(inputs[0]), _dtype(outputs[0])),
            _shape(inputs[0]),
            _shape(outputs[0]),
            latent,
        )
        self._config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
            "NUM_STREAMS": streams,
            # by default OpenVINO runs a float32 file in bfloat16 on processors that support it
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            # a thread pinned to a core stalls while another process runs there; the work queued for
            # it then piles up, 0.5 MiB a second
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            self._config["INFERENCE_NUM_THREADS"] = threads
        if not _COMPILES_ALL:
            # check now, while another backend can still be chosen, not at the first picture
            with _translated(f"{path}: OpenVINO cannot run this model on this machine", ModelError):
                _CORE.query_model(self._model, "CPU", self._config)
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    def slot(self, input_shape: tuple[int, ...]) -> OpenVinoSlot:
        """Make a slot; compile the model if the shape is new."""
        refused = f"{self._path}: OpenVINO refuses shape {input_shape}"
        with self._lock, _translated(refused, fix=f"; {advice(self.backend)}"):
            compiled = self._compiled.get(input_shape)
            if compiled is None:
                model = self._model.clone()
                model.reshape(_shapes(self.signature, input_shape))
                compiled = _CORE.compile_model(model, "CPU", self._config)
                self._compiled[input_shape] = compiled
            self._compiled.move_to_end(input_shape)
            if len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
            return OpenVinoSlot(compiled, self.signature, input_shape)

    def wanted_slots(self, input_shape: tuple[int, ...]) -> int:
        """Return one more than the streams: its tile is cut or pasted while the others compute."""
        return self._streams + 1

    def device_memory(self, input_shape: tuple[int, ...]) -> None:
        """Return None: the model runs in host memory."""

    def close(self) -> None:
        """Release the compiled models; open slots keep theirs until they are closed."""
        with self._lock:
            self._compiled.clear()


class OpenVinoSlot:
    """An infer request on numpy arrays, without copies."""

    def __init__(self, compiled: Any, signature: Signature, input_shape: tuple[int, ...]) -> None:
        self.timed = False
        self.input: npt.NDArray[Any] = np.zeros(input_shape, signature.dtype)
        self._output = np.empty(tuple(compiled.outputs[0].shape), signature.dtype)
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(0, ov.Tensor(self.input, shared_memory=True))
        self._request.set_output_tensor(0, ov.Tensor(self._output, shared_memory=True))
        if signature.latent:
            self.noise = np.zeros(signature.noise_shape(input_shape), np.float32)
            self.confidence = np.empty(tuple(compiled.outputs[1].shape), np.float32)
            self._request.set_input_tensor(1, ov.Tensor(self.noise, shared_memory=True))
            self._request.set_output_tensor(1, ov.Tensor(self.confidence, shared_memory=True))

    def submit(self) -> None:
        """Start computing."""
        with _translated("OpenVINO failed"):
            self._request.start_async()

    def wait(self) -> npt.NDArray[Any]:
        """Wait for the output."""
        with _translated("OpenVINO failed"):
            self._request.wait()
        return self._output

    def times(self) -> dict[str, float]:
        """Return the library's own timing of the last run."""
        return {"execute": float(self._request.latency)}

    def close(self) -> None:
        """Drop the request and its buffers."""
        self._request = None


def _shapes(signature: Signature, input_shape: tuple[int, ...]) -> dict[int, list[int]]:
    shapes = {0: list(input_shape)}
    if signature.latent:
        shapes[1] = list(signature.noise_shape(input_shape))
    return shapes


def _name(port: Any) -> str:
    return str(port.get_any_name()) if port.get_names() else ""


def _dtype(port: Any) -> str:
    name = str(port.element_type.get_type_name())
    return _DTYPES.get(name, name)


def _shape(port: Any) -> tuple[int | None, ...]:
    partial = port.partial_shape
    if partial.rank.is_dynamic:
        return ()
    return tuple(None if d.is_dynamic else d.get_length() for d in partial)


@contextmanager
def _translated(what: str, kind: type[Exception] = BackendError, fix: str = "") -> Iterator[None]:
    """Translate OpenVINO's RuntimeError into srsdk's exceptions, keeping the cause."""
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise kind(f"{what}: {lines[-1] if lines else error!r}{fix}") from error
