"""OpenVINO: the fast backend on CPUs."""

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

# `import openvino` sends an event to an analytics service, without asking; where its sender cannot
# be imported it takes a stub instead (openvino/tools/ovc/telemetry_utils.py). An application that
# has imported openvino before has decided for itself.
if "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino as ov
    finally:
        del sys.modules["openvino_telemetry"]
else:
    import openvino as ov

from srsdk.engines import Signature, latent_of, make_signature
from srsdk.engines.cpu import advice
from srsdk.errors import BackendError, ModelError

MAX_COMPILED = 8
"""Shapes whose compiled models are kept; compiling one takes about 50 ms."""

_DTYPES = {"u8": "uint8", "f32": "float32"}

_COMPILES_ALL = platform.machine().lower() in ("x86_64", "amd64")
"""Whether what OpenVINO reads it also compiles, as far as is known. On ARM64 OpenVINO 2026.4 reads,
but does not compile, a quantized convolution of bytes that no QuantizeLinear has written."""

_CORE = ov.Core()
"""The one of this process, never given back.

The Core that loads the CPU plugin leaves the loading thread with an alternate signal stack, whose
memory goes with the Core. Where another thread drops the Core, the first one keeps the address, and
the next signal (Python's handlers ask for that stack, Ctrl-C's too) kills the process.
"""


class OpenVinoEngine:
    """An ONNX file on the CPU by OpenVINO, in the precision that the file has, or in bfloat16.

    The model is compiled for each tile shape: with a static shape it runs 13 % faster than with
    dynamic dimensions (32x8 net, 640x360 input, 2 cores).
    """

    backend = "openvino"
    device = "cpu"
    profiles: tuple[tuple[int, int, int], ...] = ()

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
            raise BackendError("this processor has no bfloat16 (AVX512_BF16 or AMX): leave it away")
        with _translated(f"{path}: OpenVINO cannot open this model", ModelError):
            self._model = _CORE.read_model(path if graph is None else graph)
            inputs, outputs = self._model.inputs, self._model.outputs
        names = [[_name(port) for port in ports] for ports in (inputs, outputs)]
        latent = latent_of(path, names[0], names[1], _shape(inputs[-1]))
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
            # OpenVINO would turn a float32 file into bfloat16 on processors that have it
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            # a thread that is tied to a core stands still while somebody else computes there; the
            # work that is laid aside for it then piles up, 0.5 MiB a second
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            self._config["INFERENCE_NUM_THREADS"] = threads
        if not _COMPILES_ALL:
            # here, where another backend can still be chosen, and not with the first picture
            with _translated(f"{path}: OpenVINO cannot run this model on this machine", ModelError):
                _CORE.query_model(self._model, "CPU", self._config)
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    def slot(self, input_shape: tuple[int, ...]) -> OpenVinoSlot:
        """Make a slot, compiling for its shape if that is new."""
        refused = f"{self._path}: OpenVINO refuses shape {input_shape}"
        with self._lock, _translated(refused, mend=f"; {advice(self.backend)}"):
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
        """Return one beside those that compute: it is cut or laid meanwhile."""
        return self._streams + 1

    def device_memory(self, input_shape: tuple[int, ...]) -> None:
        """Return None: it computes in the host's memory."""

    def close(self) -> None:
        """Forget the compiled models; slots keep their own alive until they are closed."""
        self._compiled.clear()


class OpenVinoSlot:
    """One infer request whose tensors are numpy arrays, so nothing is copied."""

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
        """Return the library's own measure of the last run."""
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
def _translated(what: str, kind: type[Exception] = BackendError, mend: str = "") -> Iterator[None]:
    """Turn what OpenVINO raises, a RuntimeError, into ours, keeping the cause."""
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise kind(f"{what}: {lines[-1] if lines else error!r}{mend}") from error
