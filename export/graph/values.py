"""Numbers beside the picture: an input of the finished file, a constant while it is made.

Calibration, quantization and all measurements then see a network of pictures at its defaults.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from srsdk.engines.protocol import VALUES


def frozen(model: onnx.ModelProto, defaults: Sequence[float]) -> onnx.ModelProto:
    """Make the input `srsdk.values` a constant of that name; changes the model.

    Args:
        model: an exported graph with this input.
        defaults: the constant's values, in the order of the manifest's inputs.
    """
    graph = model.graph
    kept = [port for port in graph.input if port.name != VALUES]
    assert len(kept) == len(graph.input) - 1
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.append(numpy_helper.from_array(np.asarray(defaults, np.float32), VALUES))
    return model


def promoted(model: onnx.ModelProto) -> onnx.ModelProto:
    """Make the constant `srsdk.values` an input again; changes the model."""
    graph = model.graph
    (constant,) = (tensor for tensor in graph.initializer if tensor.name == VALUES)
    port = helper.make_tensor_value_info(VALUES, TensorProto.FLOAT, list(constant.dims))
    graph.initializer.remove(constant)
    graph.input.append(port)
    return model
