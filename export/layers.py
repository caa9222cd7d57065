"""The convolutions of a graph, by names that every precision of the same network shares."""

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
"""Convolutions of at most so many input channels are heads, anchors, or work channel by channel."""
CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class Layer:
    """One convolution."""

    name: str
    """Of its weights; with `#2`, `#3`, ... where several convolutions share them."""
    index: int
    """Of its node in the graph."""
    source: str
    """Tensor that it reads."""
    weight: str
    """Initializer of its weights, (out, in / groups, kh, kw)."""
    bias: str
    """Initializer of its bias; empty: none."""
    in_channels: int
    """Channels that one output channel reads."""
    is_tail: bool
    """No other convolution lies between it and the output."""
    reads_bytes: bool
    """It reads a uint8 picture, through nothing but casts, factors and layout."""


def conv_layers(model: onnx.ModelProto) -> list[Layer]:
    """Return every `Conv` with constant weights, in the graph's order.

    Transposed convolutions are left out: no engine of ours computes them in INT8.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    before_output = without_conv_behind(model.graph)
    of_bytes = _of_bytes(model.graph, set(weights))
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
                reads_bytes=node.input[0] in of_bytes,
            )
        )
    return layers


def quantisable(layers: Iterable[Layer], flavour: Flavour) -> list[Layer]:
    """Return the layers that INT8 may have; the gate decides which of them it keeps.

    The last convolution is among them: only what it reads and its weights become bytes, what it
    writes is added to the anchor in float. Measured in OpenVINO (gan_x4, 320x180, one thread) it
    takes 1.9 ms instead of 8.8.

    For CPUs so is the head, whose input is bytes to begin with (0.4 ms instead of 1.8). For GPUs it
    stays in float: of 3 channels, and padded to 32, it gains nothing there.
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
        KeyError: the graph has none of that name.
    """
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return np.asarray(numpy_helper.to_array(tensor), np.float32)
    raise KeyError(name)


def without_conv_behind(graph: onnx.GraphProto) -> set[int]:
    """Return the nodes from which the output is reached without passing another convolution."""
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


def _of_bytes(graph: onnx.GraphProto, constants: set[str]) -> set[str]:
    """Return the tensors that hold nothing but the uint8 picture, in any form."""
    kind = graph.input[0].type.tensor_type.elem_type
    found = {graph.input[0].name} if kind == TensorProto.UINT8 else set()
    for node in graph.node:
        read = {name for name in node.input if name and name not in constants}
        if read and read <= found and node.op_type not in CONVOLUTIONS:
            found.update(node.output)
    return found
