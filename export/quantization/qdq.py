"""Insert QuantizeLinear and DequantizeLinear (Q/DQ) pairs around the convolutions of a graph.

Only the inputs of convolutions are quantized: activations with one scale per tensor, weights with
one per output channel. The rest (activation functions, the anchor and its sum with the last
convolution's output) stays in the graph's float type. Backends differ, so one calibration gives two
flavours:

- `cpu`: unsigned activations with a zero point (after a ReLU all 256 levels are used), and INT32
  biases. x86 kernels multiply unsigned by signed bytes; other forms are not fused and run slower
  than float32. Without VNNI these kernels saturate, so the weights are bounded (`saturation`).
- `gpu`: signed activations, every zero point 0, float biases. TensorRT parses no other form.

Sources: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html and
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graph.layers import Flavour, Layer, conv_layers, quantizable, weights_of
from export.quantization.calibration import Calibration
from export.quantization.rounding import STEPS, rounded
from export.quantization.saturation import pair_sums

TINY = 1e-12
"""Smallest range: a channel of zeros still needs a scale above 0."""


@dataclass(frozen=True)
class Scale:
    """Affine quantization: `byte = round(real / step) + zero`."""

    step: npt.NDArray[Any]
    """() or (channels,), of the graph's float type."""
    zero: npt.NDArray[Any]
    """The same shape, uint8, int8 or int32."""


def insert(
    model: onnx.ModelProto,
    calibration: Calibration,
    flavour: Flavour,
    *,
    skip: Container[str] = (),
) -> onnx.ModelProto:
    """Return the graph with Q/DQ pairs around its convolutions.

    Args:
        model: float32 for `cpu`; float16 or float32 for `gpu`. It is not modified.
        calibration: input statistics by layer name.
        flavour: form of INT8.
        skip: names of layers to keep in float.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    before: dict[int, list[onnx.NodeProto]] = {}
    quantized: dict[str, str] = {}
    layers = quantizable(conv_layers(model), flavour)
    chosen = [layer for layer in layers if layer.name not in skip]
    for layer in chosen:
        node = graph.node[layer.index]
        added: list[onnx.NodeProto] = []
        float_type = float_type_of(graph, layer.weight)
        activation = activation_scale(*calibration.ranges[layer.name], flavour, float_type)
        exact = weights_of(model, layer.weight)
        weight, weight_scale, shift = _weights(layer, exact, flavour, calibration, float_type)
        if layer.source not in quantized:
            quantized[layer.source] = _pair(graph, added, layer.source, activation)
        node.input[0] = quantized[layer.source]
        node.input[1] = _constant(graph, added, layer.name, weight, weight_scale)
        if layer.bias:
            bias = weights_of(model, layer.bias) + shift
            name = f"{layer.name}.bias"
            if flavour == "cpu":
                step = activation.step * weight_scale.step
                scale = Scale(step, np.zeros(step.shape, np.int32))
                node.input[2] = _constant(graph, added, name, quantize_bias(bias, step), scale)
            else:
                values = bias.astype(weight_scale.step.dtype)
                graph.initializer.append(numpy_helper.from_array(values, f"{name}.shifted"))
                node.input[2] = f"{name}.shifted"
        before[layer.index] = added
    _splice(graph, before)
    _drop_unused(graph)
    return result


def _weights(
    layer: Layer,
    exact: npt.NDArray[np.float32],
    flavour: Flavour,
    calibration: Calibration,
    float_type: npt.DTypeLike,
) -> tuple[npt.NDArray[np.int8], Scale, npt.NDArray[np.float32]]:
    """Return the integer weights, their scale, and the bias correction for their rounding."""
    bounded = flavour == "cpu"
    moments = calibration.moments.get(layer.name)
    if moments is None:
        nearest, scale = quantize_weight(exact, float_type, bounded=bounded)
        means = calibration.means[layer.name]
        return nearest, scale, bias_shift(exact, nearest, scale, means)
    moments = moments if layer.bias else moments[:-1, :-1]
    steps = weight_step(exact, float_type)[None]
    if bounded:
        steps = (steps * STEPS[:, None]).astype(float_type)
    found = rounded(exact, steps, moments, bounded=bounded)
    return found.codes, Scale(found.step, np.zeros(found.step.shape, np.int8)), found.bias_shift


def activation_scale(
    low: float, high: float, flavour: Flavour, float_type: npt.DTypeLike = np.float32
) -> Scale:
    """Return the scale of a tensor with values between `low` and `high`; 0 stays exact."""
    if flavour == "gpu":
        step = np.asarray(max(-low, high, TINY) / 127, float_type)
        return Scale(np.maximum(step, smallest(float_type)), np.asarray(0, np.int8))
    low, high = min(low, 0.0), max(high, 0.0)
    step = np.asarray(max(high - low, TINY) / 255, float_type)
    return Scale(step, np.asarray(np.clip(np.round(-low / float(step)), 0, 255), np.uint8))


def weight_step(
    weight: npt.NDArray[np.float32],
    float_type: npt.DTypeLike = np.float32,
    *,
    bounded: bool = False,
) -> npt.NDArray[Any]:
    """Return (out,): the step that maps the largest weight of each output channel to 127.

    Args:
        weight: (out, in, kh, kw).
        float_type: type of the stored step.
        bounded: limit the largest sum of two neighbors to 127 too; rounded to the nearest, they
            stay within the bound of `export.quantization.saturation`, which is 128.
    """
    largest = np.abs(weight).reshape(weight.shape[0], -1).max(axis=1)
    if bounded:
        largest = np.maximum(largest, pair_sums(weight))
    step: npt.NDArray[Any] = np.maximum(np.asarray(largest / 127, float_type), smallest(float_type))
    return step


def quantize_weight(
    weight: npt.NDArray[np.float32],
    float_type: npt.DTypeLike = np.float32,
    *,
    bounded: bool = False,
) -> tuple[npt.NDArray[np.int8], Scale]:
    """Return (out, in, kh, kw) int8 and one scale for each output channel, zero point 0.

    The arguments are those of `weight_step`.
    """
    step = weight_step(weight, float_type, bounded=bounded)
    # divide by the stored step: in float16 it differs from float32
    scaled = weight / step.astype(np.float32)[:, None, None, None]
    values = np.clip(np.round(scaled), -127, 127).astype(np.int8)
    return values, Scale(step, np.zeros(step.shape, np.int8))


def bias_shift(
    exact: npt.NDArray[np.float32],
    weight: npt.NDArray[np.int8],
    scale: Scale,
    means: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Return (out,): the mean error of each output channel due to weight rounding.

    After a ReLU the mean of activations is not 0, so rounding errors of the weights shift the mean
    of every layer, which adds up to a color cast (Nagel et al. 2019, "Data-Free Quantization",
    arXiv:1906.04721, section 4.2). Grouped convolutions are not corrected.
    """
    if exact.shape[1] != len(means):
        return np.zeros(exact.shape[0], np.float32)
    lost = exact - weight * scale.step.astype(np.float32)[:, None, None, None]
    shift: npt.NDArray[np.float32] = (lost.sum(axis=(2, 3)) @ means).astype(np.float32)
    return shift


def quantize_bias(bias: npt.NDArray[np.float32], step: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Return (out,) int32, in steps of the accumulator: activation step times weight step."""
    limit = np.iinfo(np.int32).max
    scaled = np.round(bias.astype(np.float64) / step.astype(np.float64))
    return np.clip(scaled, -limit, limit).astype(np.int32)


def smallest(float_type: npt.DTypeLike) -> Any:
    """Return the smallest normal number; below it, a float16 step loses precision."""
    return np.asarray(np.finfo(np.dtype(float_type)).tiny, float_type)


def float_type_of(graph: onnx.GraphProto, weight: str) -> npt.DTypeLike:
    """Return the float type of an initializer, float16 or float32, which its scales share."""
    types = {t.name: t.data_type for t in graph.initializer}
    return np.float16 if types[weight] == TensorProto.FLOAT16 else np.float32


def _pair(graph: onnx.GraphProto, added: list[onnx.NodeProto], source: str, scale: Scale) -> str:
    """Add a Q/DQ pair for a tensor; return the new tensor's name."""
    step, zero = _store(graph, source, scale)
    added += [
        helper.make_node(
            "QuantizeLinear", [source, step, zero], [f"{source}.q"], name=f"{source}.quantize"
        ),
        helper.make_node(
            "DequantizeLinear",
            [f"{source}.q", step, zero],
            [f"{source}.dq"],
            name=f"{source}.dequantize",
        ),
    ]
    return f"{source}.dq"


def _constant(
    graph: onnx.GraphProto,
    added: list[onnx.NodeProto],
    name: str,
    values: npt.NDArray[Any],
    scale: Scale,
) -> str:
    """Store integers with their scale along axis 0; return the dequantized tensor's name."""
    step, zero = _store(graph, name, scale)
    graph.initializer.append(numpy_helper.from_array(values, f"{name}.int"))
    added.append(
        helper.make_node(
            "DequantizeLinear",
            [f"{name}.int", step, zero],
            [f"{name}.dq"],
            name=f"{name}.dequantize",
            axis=0,
        )
    )
    return f"{name}.dq"


def _store(graph: onnx.GraphProto, name: str, scale: Scale) -> tuple[str, str]:
    graph.initializer.append(numpy_helper.from_array(scale.step, f"{name}.scale"))
    graph.initializer.append(numpy_helper.from_array(scale.zero, f"{name}.zero"))
    return f"{name}.scale", f"{name}.zero"


def _splice(graph: onnx.GraphProto, before: dict[int, list[onnx.NodeProto]]) -> None:
    """Insert the new nodes directly before the convolutions that read them."""
    nodes = [n for i, node in enumerate(graph.node) for n in (*before.get(i, ()), node)]
    del graph.node[:]
    graph.node.extend(nodes)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
