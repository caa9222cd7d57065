"""Run ONNX models on the CPU with OpenVINO."""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# `import openvino` sends an event to an analytics service without asking. If the telemetry package
# cannot be imported, it uses a stub (openvino/tools/ovc/telemetry_utils.py). It also imports its
# converter of TensorFlow and other models, 20 of 50 ms, and does without if that is missing. An
# application that imported openvino earlier has made its own choice.
if "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
    try:
        import openvino as ov
    finally:
        del sys.modules["openvino_telemetry"], sys.modules["openvino.tools.ovc"]
else:
    import openvino as ov

from srsdk.engines.backends import advice
from srsdk.engines.compiled import cache as compiled_cache
from srsdk.engines.compiled import openvino_graph
from srsdk.engines.compiled.forms import CompiledForms, Form
from srsdk.engines.compiled.openvino_tail import outputs_for, without_shuffle
from srsdk.engines.protocol import Signature, further_inputs, make_signature
from srsdk.errors import BackendError, ModelError, OutOfMemoryError

log = logging.getLogger("srsdk")


def _late(name: str) -> Any:
    """Import OpenVINO's converter when an application asks for `openvino.convert_model`."""
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    from openvino.tools.ovc import convert_model

    return convert_model


if not hasattr(ov, "convert_model"):
    vars(ov).setdefault("__getattr__", _late)

MAX_PRIMITIVES = 128
"""Kernels that the form for any size keeps for each stream: those of about ten sizes. With
OpenVINO's default of 5000, 400 sizes add 210 MB to the process instead of 65 (gan_x4)."""

_WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}
"""oneDNN's names of instruction sets without bfloat16."""

_OUT_OF_MEMORY = (
    "CL_OUT_OF",
    "CL_MEM_OBJECT_ALLOCATION",
    "out of GPU resources",
    "max size of memory",
)
"""Marks of the errors in which its GPU device reports that memory is short."""

_DTYPES = {"u8": "uint8", "f32": "float32"}

_COMPILES_ALL = platform.machine().lower() in ("x86_64", "amd64")
"""Whether OpenVINO compiles every model that it can read, as far as known. On ARM64 OpenVINO 2026.4
reads a quantized convolution of bytes that no QuantizeLinear has written, but cannot compile it."""

_ANY = {"CPU_RUNTIME_CACHE_CAPACITY": MAX_PRIMITIVES}

_CORE = ov.Core()
"""The only Core of this process, never released.

The Core that loads the CPU plugin gives the loading thread an alternate signal stack, whose memory
is freed with the Core. If another thread drops the Core, the first thread keeps the address, and
the next signal kills the process: Python's handlers, Ctrl-C's included, run on that stack.
"""


def core() -> Any:
    """Return the only `openvino.Core` of this process."""
    return _CORE


class OpenVinoEngine:
    """An ONNX file opened on the CPU with OpenVINO, in the file's precision or in bfloat16.

    The model is compiled once for any tile shape, and again for each shape that recurs, which then
    runs 4 to 10 % faster; both give the same bits. A graph for which that is not known is compiled
    for each shape (`openvino_graph.fits_any_size`).

    Args:
        path: the file.
        threads: CPU threads; None: OpenVINO's choice.
        streams: tiles computed at the same time.
        precision: `bf16`, or the file's own.
        graph: ONNX bytes to open instead of the file's content.
        cache: keep what was compiled for any shape in the user's cache folder.

    Raises:
        ModelError: OpenVINO cannot read the file, or cannot run it on this machine.
        BackendError: this processor has no bfloat16.
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
        cache: bool = True,
    ) -> None:
        self._streams = streams
        self._path = path
        if precision == "bf16":
            _check_bf16()
        self._config = cpu_config(threads, streams, precision)
        content = compiled_cache.content_of(path, graph) if cache else None
        # what is read must be what the cache file is named after, even if the file changes
        self._source: Any = content or graph or path
        self._cached_as = None
        if content is not None:
            config = {**self._config, "any": _ANY}
            self._cached_as = compiled_cache.cache_file(content, ov.get_version(), config)
        self._model: Any = None
        self._reading = threading.Lock()
        cached = self._load()
        signature, compiled = cached or (None, None)
        if cached is None and not _COMPILES_ALL:
            # check now, while another backend can still be chosen, not at the first picture
            with translated(f"{path}: OpenVINO cannot run this model on this machine", ModelError):
                _CORE.query_model(self._read(), "CPU", self._config)
        self.signature = signature or signature_of(path, self._read())
        fits = cached is not None or openvino_graph.fits_any_size(self._read())
        compile_any = self._compile_any if fits else None
        self._forms = CompiledForms(compile_any, self._compile_own, compiled)

    def slot(self, input_shape: tuple[int, ...]) -> OpenVinoSlot:
        """Make a slot; compile the model if necessary."""
        return OpenVinoSlot(self._form, self._count, self.signature, input_shape)

    def wanted_slots(self, input_shape: tuple[int, ...]) -> int:
        """Return one more than the streams: its tile is cut or pasted while the others compute."""
        return self._streams + 1

    def device_memory(self, input_shape: tuple[int, ...]) -> None:
        """Return None: the model runs in host memory."""

    def close(self) -> None:
        """Release the compiled models; open slots keep theirs until they are closed."""
        self._forms.clear()

    def _form(self, input_shape: tuple[int, ...]) -> Form:
        with self._refused(input_shape):
            return self._forms.get(input_shape)

    def _count(self, input_shape: tuple[int, ...]) -> Form | None:
        with self._refused(input_shape):
            return self._forms.count(input_shape)

    def _refused(self, input_shape: tuple[int, ...]) -> AbstractContextManager[None]:
        refused = f"{self._path}: OpenVINO refuses shape {input_shape}"
        return translated(refused, fix=f"; {advice(self.backend)}")

    def _read(self) -> Any:
        """Return the model, read when it is first needed."""
        opening = translated(f"{self._path}: OpenVINO cannot open this model", ModelError)
        with self._reading, opening:
            if self._model is None:
                self._model = _CORE.read_model(self._source)
                self._source = None
            return self._model

    def _load(self) -> tuple[Signature, Any] | None:
        """Return what an earlier process compiled for any shape, or None."""
        cached = compiled_cache.load(self._cached_as)
        if cached is None:
            return None
        signature, blob = cached
        try:
            return signature, _CORE.import_model(blob, "CPU", {**self._config, **_ANY})
        except RuntimeError as error:
            log.warning("%s: its cached form is compiled again: %s", self._path, _last_line(error))
            return None

    def _compile_any(self) -> Any:
        model = openvino_graph.for_any_size(self._read().clone())
        compiled = _CORE.compile_model(model, "CPU", {**self._config, **_ANY})
        if self._cached_as is not None:
            blob = compiled.export_model().getvalue()
            compiled_cache.store(self._cached_as, self.signature, blob)
        return compiled

    def _compile_own(self, input_shape: tuple[int, ...]) -> Any:
        model = self._read().clone()
        model.reshape(shapes_of(self.signature, input_shape))
        return _CORE.compile_model(without_shuffle(model), "CPU", self._config)


class OpenVinoSlot:
    """An infer request on numpy arrays, without copies.

    Args:
        get: returns the compiled form for a shape.
        count: counts a run; returns the form to use from now on, if it changes.
        signature: types and shapes of the model.
        input_shape: shape of the input.
    """

    def __init__(
        self,
        get: Callable[[tuple[int, ...]], Form],
        count: Callable[[tuple[int, ...]], Form | None],
        signature: Signature,
        input_shape: tuple[int, ...],
    ) -> None:
        self.timed = False
        self._count = count
        self._samples, self._dtype = signature.latent > 0, signature.dtype
        self.input: npt.NDArray[Any] = np.zeros(input_shape, signature.dtype)
        if self._samples:
            self.noise = np.zeros(signature.noise_shape(input_shape), np.float32)
        if signature.values:
            self.values: npt.NDArray[Any] = np.zeros(signature.values, np.float32)
        self._has_values = signature.values > 0
        self._use(get(input_shape))

    def submit(self) -> None:
        """Start computing."""
        if not self._form.is_own:
            form = self._count(self.input.shape)
            if form is not None:
                self._use(form)
        with translated("OpenVINO failed"):
            self._request.start_async()

    def wait(self) -> npt.NDArray[Any]:
        """Wait for the output."""
        with translated("OpenVINO failed"):
            self._request.wait()
            if self._output is not None:
                return self._output
            # the form for any size: its output is the request's own memory
            if self._samples:
                self.confidence: npt.NDArray[Any] = self._request.get_output_tensor(1).data
            output: npt.NDArray[Any] = self._request.get_output_tensor(0).data
        return output

    def times(self) -> dict[str, float]:
        """Return the library's own timing of the last run."""
        return {"execute": float(self._request.latency)}

    def close(self) -> None:
        """Drop the request and its buffers."""
        self._request: Any = None

    def _use(self, form: Form) -> None:
        with translated("OpenVINO failed"):
            request = form.compiled.create_infer_request()
            request.set_input_tensor(0, ov.Tensor(self.input, shared_memory=True))
            if self._samples:
                request.set_input_tensor(1, ov.Tensor(self.noise, shared_memory=True))
            if self._has_values:
                request.set_input_tensor(1, ov.Tensor(self.values, shared_memory=True))
            self._output = self._bind_outputs(form, request) if form.is_own else None
        self._form, self._request = form, request

    def _bind_outputs(self, form: Form, request: Any) -> npt.NDArray[Any]:
        """Let a model of known size write into arrays; return its output as `wait` does."""
        shapes = [tuple(port.shape) for port in form.compiled.outputs]
        if self._samples:
            self.confidence = np.empty(shapes.pop(), np.float32)
            request.set_output_tensor(1, ov.Tensor(self.confidence, shared_memory=True))
        buffers, output = outputs_for(shapes, self.input.shape, self._dtype)
        for index, buffer in enumerate(buffers):
            request.set_output_tensor(index, ov.Tensor(buffer, shared_memory=True))
        return output


def _check_bf16() -> None:
    """Check that OpenVINO can compute in bfloat16.

    Raises:
        BackendError: the processor cannot, or the user forbids it: OpenVINO 2026.4 would then crash
            in a model of any size, because it asks the processor and oneDNN asks the variable.
    """
    if "BF16" not in _CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendError("this processor has no bfloat16 (AVX512_BF16 or AMX): omit bf16")
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        limit = os.environ.get(name, "").upper()
        if limit in _WITHOUT_BF16:
            raise BackendError(f"{name}={limit} switches bfloat16 off: unset it, or omit bf16")


def cpu_config(threads: int | None, streams: int, precision: str) -> dict[str, Any]:
    """Return the settings of the CPU device; the arguments are those of `OpenVinoEngine`."""
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": streams,
        # by default OpenVINO runs a float32 file in bfloat16 on processors that support it
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        # a thread pinned to a core stalls while another process runs there; the work queued for
        # it then piles up, 0.5 MiB a second
        "ENABLE_CPU_PINNING": False,
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    return config


def signature_of(path: Path, model: Any) -> Signature:
    """Return the signature of a model."""
    inputs, outputs = model.inputs, model.outputs
    names = [[_name(port) for port in ports] for ports in (inputs, outputs)]
    last = _shape(inputs[-1]) if inputs else ()
    further = further_inputs(path, names[0], names[1], last)
    types = _dtype(inputs[0]), _dtype(outputs[0])
    return make_signature(path, types, _shape(inputs[0]), _shape(outputs[0]), further)


def shapes_of(signature: Signature, input_shape: tuple[int, ...]) -> dict[int, list[int]]:
    """Return the shapes of a model's inputs, by index, for one shape of the picture."""
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
def translated(what: str, kind: type[Exception] = BackendError, fix: str = "") -> Iterator[None]:
    """Translate OpenVINO's RuntimeError into srsdk's exceptions, keeping the cause."""
    try:
        yield
    except RuntimeError as error:
        if any(sign in str(error) for sign in _OUT_OF_MEMORY):
            kind = OutOfMemoryError
        raise kind(f"{what}: {_last_line(error)}{fix}") from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
