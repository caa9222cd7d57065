"""Channel equalization: bring the channels of a tensor to similar ranges for one INT8 scale.

`relu(s * x) = s * relu(x)` for s > 0; the same holds for PReLU and LeakyReLU. So a channel between
two convolutions can be divided by s in the weights of the first and multiplied by s in those of the
second without changing the network. s is a power of the ratio of the channel's largest value to the
tensor's; the weights absorb the rest, because they have one scale for each output channel (Nagel et
al. 2019, "Data-Free Quantization", arXiv:1906.04721, section 4.1; the power as in Xiao et al. 2022,
"SmoothQuant", arXiv:2211.10438).

Loss on Set5 in dB with all of the body in INT8, for powers 0, 0.5, 0.75, 1: gan_x2 on GPUs 0.074,
0.057, 0.036, 0.030, on CPUs 0.023, 0.017, 0.007, 0.010. Agreement of realesr-animevideov3, a GAN
with PReLU, with float32: 37.5, 40.4, 41.0, 40.7 dB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from export.graph.layers import Layer, conv_layers, quantizable, weights_of

HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu")
EXPONENT = 0.75
SMALLEST = 1 / 64
"""Limit of the ratio, so that channels with hardly any positive value are not amplified further."""

Factors = Mapping[str, npt.NDArray[np.float32]]


def factors(
    model: onnx.ModelProto, peaks: Mapping[str, npt.NDArray[np.float64]]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the divisors of input channels, by the name of the layer that reads them.

    Args:
        model: a float graph.
        peaks: largest absolute value of each channel of each layer's input, by layer name.
    """
    found = {}
    for _, reader in chains(model):
        peak = peaks[reader.name]
        relative = peak / max(float(peak.max()), 1e-12)
        found[reader.name] = np.maximum(relative, SMALLEST).astype(np.float32) ** EXPONENT
    return found


def equalized(model: onnx.ModelProto, divisors: Factors) -> onnx.ModelProto:
    """Return the same network with the channels between convolutions divided.

    Args:
        model: a float graph, in any precision, of the network that `factors` was called with.
        divisors: result of `factors`.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for writer, reader in chains(model):
        divisor = divisors[reader.name]
        inverse = np.reciprocal(divisor)
        _scale(result, writer.weight, inverse[:, None, None, None])
        if writer.bias:
            _scale(result, writer.bias, inverse)
        _scale(result, reader.weight, divisor[None, :, None, None])
    return result


def chains(model: onnx.ModelProto) -> list[tuple[Layer, Layer]]:
    """Return the pairs conv, activation, conv with no other reader between them."""
    graph = model.graph
    layers = conv_layers(model)
    by_output = {graph.node[layer.index].output[0]: layer for layer in layers}
    producer = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    pairs = []
    for reader in quantizable(layers, "gpu"):
        node = producer.get(reader.source)
        source = reader.source
        if node is not None and node.op_type in HOMOGENEOUS and readers[source] == 1:
            source = node.input[0]
        writer = by_output.get(source)
        alone = readers[source] == 1 and readers[reader.source] == 1
        if writer is None or not alone or readers[writer.weight] > 1 or readers[reader.weight] > 1:
            continue
        if weights_of(model, writer.weight).shape[0] == weights_of(model, reader.weight).shape[1]:
            pairs.append((writer, reader))
    return pairs


def _scale(model: onnx.ModelProto, name: str, factor: npt.NDArray[np.float32]) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            kind = numpy_helper.to_array(tensor).dtype
            scaled = (weights_of(model, name) * factor).astype(kind)
            tensor.CopyFrom(numpy_helper.from_array(scaled, name))
