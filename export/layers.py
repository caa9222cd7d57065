"""The convolutions of a graph, by names that every precision of the same network shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

PICTURE_CHANNELS = 4
"""Convolutions of at most so many input channels are heads and anchors: they read the picture."""


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


def conv_layers(model: onnx.ModelProto) -> list[Layer]:
    """Return every `Conv` with constant weights, in the graph's order.

    Transposed convolutions are left out: no engine of ours computes them in INT8.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    before_output = without_conv_behind(model.graph)
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
            )
        )
    return layers


def body(layers: Iterable[Layer]) -> list[Layer]:
    """Return the layers that INT8 may have: not those that read the picture, not the last ones.

    Head, tail and anchor cost about 0.01 dB in INT8 and, of few channels, gain no time.
    """
    return [layer for layer in layers if layer.in_channels > PICTURE_CHANNELS and not layer.is_tail]


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
        if node.op_type not in ("Conv", "ConvTranspose"):
            waiting += node.input
    return reached
