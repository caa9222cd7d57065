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
    is_uint8 = session.get_inputs()[0].type == "tensor(uint8)"

    def run(image: Batch) -> Batch:
        result: npt.NDArray[Any] = session.run(None, inputs_for(session, image))[0]
        if is_uint8:
            return result
        levels: Batch = np.rint(np.clip(result * 255, 0, 255)).astype(np.uint8)
        return levels

    return run


def inputs_for(session: Any, image: Batch) -> dict[str, npt.NDArray[Any]]:
    """Return what a session's inputs take for a picture.

    Args:
        session: an `onnxruntime.InferenceSession` of an exported graph, uint8 or float32.
        image: (N, H, W, C) uint8. The noise of a vae, (N, latent, H, W), is 0: its mean.
    """
    first, *others = session.get_inputs()
    count, height, width = image.shape[:3]
    pixels = image if first.type == "tensor(uint8)" else image.astype(np.float32) / np.float32(255)
    zeros = {
        port.name: np.zeros((count, port.shape[1], height, width), np.float32)
        for port in others
        if len(port.shape) == 4
    }
    return {first.name: pixels, **zeros}


def _is_signed(graph: onnx.GraphProto) -> bool:
    """Return whether activations are quantized to signed bytes."""
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    zeros = [n.input[2] for n in graph.node if n.op_type == "QuantizeLinear" and len(n.input) > 2]
    return any(kinds.get(name) == onnx.TensorProto.INT8 for name in zeros)
