"""Run ONNX models on a GPU with ONNX Runtime, on srsdk's device memory and stream."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

# see srsdk.engines.onnxruntime: it must be set before the import, whichever module comes first
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from srsdk.engines.cuda.compute_streams import ComputeStream, make_compute_streams
from srsdk.engines.cuda.device import Device
from srsdk.engines.cuda.engine import CudaEngine, failure
from srsdk.engines.onnxruntime import ERRORS_ONLY, onnx_dtype, onnx_shape
from srsdk.engines.protocol import VALUES, Signature, further_inputs, make_signature
from srsdk.errors import BackendError, ModelError

log = logging.getLogger("srsdk")

PROVIDER = "CUDAExecutionProvider"
DEVICE_KIND = "cuda"
"""Device type of the bound addresses."""
_FIX = "pip uninstall -y onnxruntime && pip install 'srsdk[cuda]', or device='cpu'"
_RECORD_NODES = "session.record_ep_graph_assignment_info"
"""Session setting: remember which provider each node was assigned to."""
COMPUTE_OPS = frozenset({"Conv", "ConvTranspose", "FusedConv", "MatMul", "Gemm", "FusedMatMul"})
"""Operators of which a network for images consists; on the CPU they would be the fallback."""


def open_onnxruntime_cuda(
    path: Path,
    device_index: int,
    *,
    max_memory: int | None = None,
    graph: bytes | None = None,
) -> CudaEngine:
    """Open an ONNX file on one GPU.

    Args:
        path: an `.onnx` file.
        device_index: index of the GPU.
        max_memory: device bytes for slots, and separately for the library's arena; None: no limit.
        graph: ONNX bytes to open instead of the file's content: a form derived from it.

    Raises:
        ModelError: the library cannot read the file.
        BackendError: no GPU, or the library would fall back to the CPU.
    """
    device = Device(device_index)
    # a session computes everything on one stream
    compute_streams = make_compute_streams(device, 1)
    try:
        options = {
            "device_id": str(device_index),
            "user_compute_stream": str(compute_streams[0].stream.handle),
            # keep float32: TF32 has the precision of float16
            "use_tf32": "0",
            # allocate exactly what is needed, not the next power of two
            "arena_extend_strategy": "kSameAsRequested",
        }
        if max_memory is not None:
            options["gpu_mem_limit"] = str(max_memory)
        with device.active():
            session = make_cuda_session(graph or path, options)
            network = OnnxRuntimeNetwork(path, session, device)
    except BaseException:
        for compute_stream in compute_streams:
            compute_stream.close()
        raise
    return CudaEngine(
        "onnxruntime", device, network, compute_streams, graphs=False, max_memory=max_memory
    )


def make_cuda_session(path: Path | bytes, provider_options: dict[str, str]) -> Any:
    """Make a session on CUDA and check that it does not run on the CPU.

    Raises:
        ModelError: the library cannot read the file.
        BackendError: the session runs on the CPU: the library falls back with only a log line.
    """
    if PROVIDER not in ort.get_available_providers():
        raise BackendError(
            f"onnxruntime {ort.__version__} is the build for CPUs, without {PROVIDER}: {_FIX}"
        )
    # loads the CUDA libraries installed as wheels; missing ones are detected below
    ort.preload_dlls()
    options = ort.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry(_RECORD_NODES, "1")
    try:
        model = path if isinstance(path, bytes) else os.fspath(path)
        session = ort.InferenceSession(
            model,
            options,
            providers=[(PROVIDER, provider_options)],
            # after an error of CUDA, `run` would silently repeat itself on the CPU
            enable_fallback=0,
        )
    except Exception as error:  # the only common base of the library's exceptions
        first = _first_line(error)
        name = "a form of this model" if isinstance(path, bytes) else path
        raise ModelError(f"{name}: ONNX Runtime cannot open this model: {first}") from error
    check_provider(session)
    check_nodes(_op_types_by_provider(session))
    return session


def check_provider(session: Any) -> None:
    """Reject a session that does not run on CUDA.

    Raises:
        BackendError: it would run on another provider.
    """
    got = session.get_providers()
    if PROVIDER not in got:
        raise BackendError(
            f"asked ONNX Runtime {ort.__version__} for {PROVIDER}, got {', '.join(got)}: its CUDA "
            f"or cuDNN libraries do not load: {_FIX}"
        )


def check_nodes(op_types: dict[str, list[str]]) -> None:
    """Check that the network's computation is on the GPU.

    The library assigns each node to a provider on its own. It keeps the arithmetic of shapes on
    the CPU for good reasons; other operators there are slow and are logged.

    Args:
        op_types: operators by provider.

    Raises:
        BackendError: convolutions or matrix products run on the CPU.
    """
    elsewhere = [op for name, ops in op_types.items() if name != PROVIDER for op in ops]
    fallen_back = sorted(set(elsewhere) & COMPUTE_OPS)
    if fallen_back:
        raise BackendError(
            f"ONNX Runtime {ort.__version__} runs {', '.join(fallen_back)} of this model on the "
            "CPU, expected the GPU: export it again with python -m export in a checkout of "
            "srsdk, or use device='cpu'"
        )
    if elsewhere:
        counts = ", ".join(f"{op} ({n})" for op, n in sorted(Counter(elsewhere).items()))
        log.info("ONNX Runtime runs these operators on the CPU: %s", counts)


def _op_types_by_provider(session: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, []).extend(node.op_type for node in part.get_nodes())
    return found


class OnnxRuntimeNetwork:
    """A session whose runs are bound to fixed device addresses."""

    # the library may copy pageable memory and call the host within a run, which a CUDA graph would
    # repeat with the values of the time when it was captured
    capturable = False
    few_shapes = True
    profiles: tuple[tuple[int, int, int], ...] = ()

    def __init__(self, path: Path, session: Any, device: Device) -> None:
        self._session, self._device = session, device
        inputs, outputs = session.get_inputs(), session.get_outputs()
        names = [[str(port.name) for port in ports] for ports in (inputs, outputs)]
        last = onnx_shape(inputs[-1]) if inputs else ()
        latent, values = further_inputs(path, names[0], names[1], last)
        if latent:
            raise ModelError(f"{path}: sampling networks run on the CPU: device='cpu'")
        self.names = names[0][0], names[1][0]
        dtypes = onnx_dtype(inputs[0]), onnx_dtype(outputs[0])
        shapes = onnx_shape(inputs[0]), onnx_shape(outputs[0])
        self.signature: Signature = make_signature(path, dtypes, *shapes, (0, values))
        self._output_shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._arena_bytes: dict[tuple[int, ...], int] = {}

    def prepare(
        self, input_shape: tuple[int, ...], compute_stream: ComputeStream
    ) -> OnnxRuntimeRun:
        """Run a new shape once from the host, to learn its output shape and select kernels."""
        with compute_stream.lock:
            if self._session is None:
                raise BackendError("this Upscaler is closed")
            if input_shape not in self._output_shapes:
                self._run_once(input_shape)
            shapes = input_shape, self._output_shapes[input_shape]
            return OnnxRuntimeRun(self._session, self._device.index, self.names,
                                  self.signature, shapes)  # fmt: skip

    def _run_once(self, input_shape: tuple[int, ...]) -> None:
        before, _ = self._device.memory()
        zeros = np.zeros(input_shape, self.signature.dtype)
        try:
            feeds = {self.names[0]: zeros}
            if self.signature.values:
                feeds[VALUES] = np.zeros(self.signature.values, np.float32)
            (output,) = self._session.run([self.names[1]], feeds)
        except Exception as error:
            what = f"ONNX Runtime refuses {input_shape}: {_first_line(error)}"
            raise failure(what) from error
        after, _ = self._device.memory()
        self._output_shapes[input_shape] = output.shape
        self._arena_bytes[input_shape] = max(0, before - after)

    def scratch_bytes(self, input_shape: tuple[int, ...]) -> int | None:
        """Return how much the library's arena grew at the first run of the shape."""
        return self._arena_bytes.get(input_shape)

    def settled(self) -> None:
        """Do nothing: there is no cache to save."""

    def close(self) -> None:
        """Drop the session and its arena."""
        self._session = None


class OnnxRuntimeRun:
    """An I/O binding for one shape; scratch memory is in the session's arena."""

    scratch_bytes = 0

    def __init__(
        self, session: Any, device_index: int, names: tuple[str, str], signature: Signature,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
    ) -> None:  # fmt: skip
        self._session, self._device_index = session, device_index
        self._names, self._dtype, self._shapes = names, signature.dtype, shapes
        self.values = np.zeros(signature.values, np.float32)
        """The input `srsdk.values`; empty: there is none."""
        self.output_shape = shapes[1]
        self._binding = session.io_binding()
        self._options = ort.RunOptions()
        # the run returns once everything is enqueued; our events signal its end
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def bind(self, input_address: int, output_address: int, scratch_address: int) -> None:
        """Fix the device addresses."""
        kind, index, dtype = DEVICE_KIND, self._device_index, np.dtype(self._dtype).type
        source, target = self._shapes
        self._binding.bind_input(self._names[0], kind, index, dtype, source, input_address)
        self._binding.bind_output(self._names[1], kind, index, dtype, target, output_address)

    def enqueue(self, stream: int) -> None:
        """Enqueue on the session's stream, which is the compute stream's."""
        try:
            if self.values.size:
                # a binding copies what is on the host when it is bound
                self._binding.bind_cpu_input(VALUES, self.values)
                self._binding.synchronize_inputs()
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:
            raise failure(f"ONNX Runtime failed: {_first_line(error)}") from error

    def close(self) -> None:
        """Drop the binding."""
        self._binding = self._session = None


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else repr(error)
