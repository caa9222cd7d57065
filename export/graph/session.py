"""Run graphs in ONNX Runtime on the CPU, the reference for every exported file."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.errors import ExportError
from export.graph.onnx_errors import sentence
from export.protocol import Batch, Run

FATAL_ONLY = 4
"""Level of ONNX Runtime's log: its errors are raised, not printed too."""


def open_session(model: onnx.ModelProto) -> Any:
    """Return an `onnxruntime.InferenceSession` on the CPU.

    Raises:
        ExportError: ONNX Runtime rejects the graph; the message holds its reason.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if _is_signed(model.graph):
        # a file for GPUs: integer kernels of CPUs without VNNI would saturate on it
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        # ONNX Runtime's exceptions share no base class but `Exception`
        raise ExportError(f"ONNX Runtime rejects the graph: {sentence(error)}") from error


def session_run(model: onnx.ModelProto) -> Run:
    """Return a function that runs a graph on uint8 batches, whatever its boundary type."""
    session = open_session(model)
    name = session.get_inputs()[0].name
    is_uint8 = session.get_inputs()[0].type == "tensor(uint8)"
    # a vae's noise, (N, latent, H, W): 0 gives its mean
    latents = [(port.name, port.shape[1]) for port in session.get_inputs()[1:]]

    def run(image: Batch) -> Batch:
        count, height, width = image.shape[:3]
        feed = {n: np.zeros((count, z, height, width), np.float32) for n, z in latents}
        pixels = image if is_uint8 else image.astype(np.float32) / np.float32(255)
        result: npt.NDArray[Any] = session.run(None, {name: pixels, **feed})[0]
        if is_uint8:
            return result
        levels: Batch = np.rint(np.clip(result * 255, 0, 255)).astype(np.uint8)
        return levels

    return run


def _is_signed(graph: onnx.GraphProto) -> bool:
    """Return whether activations are quantized to signed bytes."""
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    zeros = [n.input[2] for n in graph.node if n.op_type == "QuantizeLinear" and len(n.input) > 2]
    return any(kinds.get(name) == onnx.TensorProto.INT8 for name in zeros)
