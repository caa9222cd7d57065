"""ONNX Runtime as the yardstick: it runs every graph that is written here, on every machine."""

from __future__ import annotations

import os
from typing import Any

import onnx

from export.onnx_file import ExportError

ERRORS_ONLY = 3


def open_session(model: onnx.ModelProto) -> Any:
    """Return an `onnxruntime.InferenceSession` on the CPU.

    Raises:
        ExportError: ONNX Runtime refuses the graph; says why.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if _is_signed(model.graph):
        # made for GPUs: a CPU's integer kernels saturate on it where there is no VNNI
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        # its exceptions share no base class of their own but `Exception`
        reason = " ".join(str(error).split())
        raise ExportError(f"ONNX Runtime refuses the graph: {reason}") from error


def _is_signed(graph: onnx.GraphProto) -> bool:
    """Say whether activations are quantised to signed bytes."""
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    zeros = [n.input[2] for n in graph.node if n.op_type == "QuantizeLinear" and len(n.input) > 2]
    return any(kinds.get(name) == onnx.TensorProto.INT8 for name in zeros)
