"""Find the convolutions of a graph; their names are the same in every precision of a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

Flavour = Literal["cpu", "gpu"]

PICTURE_CHANNELS = 4
"""Convolutions with at most this many input channels are heads, anchors or depthwise."""
CONVOLUTIONS = ("Conv", "ConvTranspose")
PRODUCTS = (*CONVOLUTIONS, "MatMul", "Gemm")


@dataclass(frozen=True)
class Layer:
    """One convolution."""

    name: str
    """Name of its weights; with `#2`, `#3`, ... if several convolutions share them."""
    index: int
    """Index of its node in the graph."""
    source: str
    """Input tensor."""
    weight: str
    """Initializer of its weights, (out, in / groups, kh, kw)."""
    bias: str
    """Initializer of its bias; empty: none."""
    in_channels: int
    """Input channels per output channel."""
    is_tail: bool
    """No other convolution lies between it and the output."""
    reads_bytes: bool
    """Its input is the uint8 picture after casts, scaling and transposes only."""


def conv_layers(model: onnx.ModelProto) -> list[Layer]:
    """Return every `Conv` with constant weights, in graph order.

    Transposed convolutions are excluded: none of our engines computes them in INT8.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    before_output = without_conv_behind(model.graph)
    byte_tensors = _byte_tensors(model.graph, set(weights))
    seen: Counter[str] = Counter()
    layers = []
    for index, node in enumerate(model.graph.node):
        if node.op_type != "Conv" or node.input[1] not in weights:
            continue
        weight = node.input[1]
        seen[weight] += 1
        bias = node.input[2] if len(node.input) > 2 else ""
        layers.append(
            Layer(
                name=weight if seen[weight] == 1 else f"{weight}#{seen[weight]}",
                index=index,
                source=node.input[0],
                weight=weight,
                bias=bias if bias in weights else "",
                in_channels=weights[weight].dims[1],
                is_tail=index in before_output,
                reads_bytes=node.input[0] in byte_tensors,
            )
        )
    return layers


def quantizable(layers: Iterable[Layer], flavour: Flavour) -> list[Layer]:
    """Return the layers that may be quantized; the gate decides which of them stay in INT8.

    The last convolution is included: only its input and weights become bytes, and its output is
    added to the anchor in float. In OpenVINO (gan_x4, 320x180, one thread) it takes 1.9 ms instead
    of 8.8.

    On CPUs the head is included too, because its input is bytes already (0.4 ms instead of 1.8). On
    GPUs it stays in float: its 3 channels are padded to 32, so INT8 gains nothing.
    """
    return [
        layer
        for layer in layers
        if layer.in_channels > PICTURE_CHANNELS
        or (flavour == "cpu" and layer.reads_bytes and not layer.is_tail)
    ]


def weights_of(model: onnx.ModelProto, name: str) -> npt.NDArray[np.float32]:
    """Return an initializer as float32.

    Raises:
        KeyError: the graph has no initializer of that name.
    """
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return np.asarray(numpy_helper.to_array(tensor), np.float32)
    raise KeyError(name)


def without_conv_behind(graph: onnx.GraphProto) -> set[int]:
    """Return the nodes with no further convolution between them and the output."""
    producer = {name: index for index, node in enumerate(graph.node) for name in node.output}
    reached: set[int] = set()
    waiting = [output.name for output in graph.output]
    while waiting:
        index = producer.get(waiting.pop())
        if index is None or index in reached:
            continue
        reached.add(index)
        node = graph.node[index]
        if node.op_type not in CONVOLUTIONS:
            waiting += node.input
    return reached


def _byte_tensors(graph: onnx.GraphProto, constants: set[str]) -> set[str]:
    """Return the tensors that depend on the uint8 picture only, with no convolution between."""
    kind = graph.input[0].type.tensor_type.elem_type
    found = {graph.input[0].name} if kind == TensorProto.UINT8 else set()
    for node in graph.node:
        read = {name for name in node.input if name and name not in constants}
        if read and read <= found and node.op_type not in CONVOLUTIONS:
            found.update(node.output)
    return found
