"""Compute several pixels of a narrow last convolution at once.

The kernels of the CPU compute 16 output channels at a time. A network for luma that enlarges twice
ends in four: a block of 2 x 2 pixels. Four neighboring pixels of it are one pixel of a convolution
with 16 output channels, a kernel that is three columns wider, and a stride of four columns. Its
additional weights are zero, so the integers that it adds up are the same, and its output is the
same memory. For `realtime_x2.int8` at 640x360 that takes 1.5 in place of 2.9 of 14.9 ms (AVX-512
VNNI), with AVX2 2.5 in place of 3.7 of 26.6.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

CHANNELS = 4
"""Output channels for which this pays. With 12, the wider kernel costs more than it saves."""
PIXELS = 4
"""Neighboring pixels that become one."""

_IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
"""The kernels of ARM64 (OpenVINO 2026.4, emulated) give a wrong result for such a convolution."""

_ELEMENTWISE = {"Add", "Subtract", "Multiply", "Minimum", "Maximum", "Convert", "FakeQuantize"}


class _Quantized(NamedTuple):
    """Integers, and what one of them means in each output channel."""

    values: npt.NDArray[Any]
    scales: npt.NDArray[np.float32]


class _Tail(NamedTuple):
    """What lies between the last convolutions and the output."""

    convolutions: list[tuple[Any, _Quantized]]
    """Convolution and its weights, (CHANNELS, C, kh, kw)."""
    biases: list[tuple[Any, npt.NDArray[np.float32]]]
    """Inputs of elementwise operations, and their values by channel."""


def fold(end: Any) -> bool:
    """Rewrite, in place, the convolutions that end in `end`, if they are of the known form.

    Args:
        end: node with a static output (N, CHANNELS, H, W), which nothing but the end of the graph
            reads.

    Returns:
        Whether it was rewritten: the output is then (N, CHANNELS * PIXELS, H, W / PIXELS).
    """
    _, channels, _, width = end.get_output_shape(0)
    if not _IS_X86 or channels != CHANNELS or width % PIXELS:
        return False
    tail = _tail(end)
    if tail is None:
        return False
    from openvino import opset13 as ops

    for convolution, weights in tail.convolutions:
        convolution.input(1).replace_source_output(_wide(weights).output(0))
        convolution.set_attribute("strides", [1, PIXELS])
    for entry, values in tail.biases:
        tiled = np.tile(values, PIXELS).reshape(1, -1, 1, 1)
        entry.replace_source_output(ops.constant(tiled).output(0))
    return True


def _tail(end: Any) -> _Tail | None:
    """Collect what has to change; None: another form."""
    found, waiting, seen = _Tail([], []), [end], set[str]()
    while waiting:
        node = waiting.pop()
        name = node.get_friendly_name()
        if name in seen:
            continue
        seen.add(name)
        if node.get_type_name() == "Convolution":
            weights = _dequantized(node.input_value(1).get_node())
            if weights is None or not _keeps_size(node, weights.values):
                return None
            found.convolutions.append((node, weights))
        elif node.get_type_name() in _ELEMENTWISE:
            for entry in node.inputs():
                source = entry.get_source_output().get_node()
                bias = _bias(source)
                if bias is not None:
                    found.biases.append((entry, bias))
                elif not _is_number(source):
                    waiting.append(source)
        else:
            return None
    reads = {each for node, _ in found.convolutions for each in _ancestors(node)}
    return None if reads & seen or not found.convolutions else found


def _keeps_size(convolution: Any, weights: npt.NDArray[Any]) -> bool:
    attributes = convolution.get_attributes()
    padding = [(side - 1) // 2 for side in weights.shape[2:]]
    return (
        weights.shape[0] == CHANNELS
        and all(side % 2 for side in weights.shape[2:])
        and list(attributes["strides"]) == list(attributes["dilations"]) == [1, 1]
        and list(attributes["pads_begin"]) == list(attributes["pads_end"]) == padding
        and attributes.get("auto_pad", "explicit") == "explicit"
    )


def _dequantized(node: Any) -> _Quantized | None:
    """Read `(integers - 0) * scales`, the form that OpenVINO gives DequantizeLinear."""
    if node.get_type_name() != "Multiply":
        return None
    difference = node.input_value(0).get_node()
    scales = _constant(node.input_value(1).get_node())
    if difference.get_type_name() != "Subtract" or scales is None or scales.size != CHANNELS:
        return None
    values = _constant(difference.input_value(0).get_node())
    zeros = _constant(difference.input_value(1).get_node())
    if values is None or zeros is None or zeros.any():
        return None
    return _Quantized(values, np.asarray(scales, np.float32).reshape(-1))


def _bias(node: Any) -> npt.NDArray[np.float32] | None:
    """Return the values of a bias, one for each channel; None: something else."""
    if node.get_type_name() != "Reshape" or list(node.get_output_shape(0)) != [1, CHANNELS, 1, 1]:
        return None
    found = _dequantized(node.input_value(0).get_node())
    if found is None:
        return None
    return found.values.astype(np.float32).reshape(-1) * found.scales


def _constant(node: Any) -> npt.NDArray[Any] | None:
    """Return the data of a Constant, behind conversions of its type or shape."""
    while node.get_type_name() in ("Convert", "Reshape"):
        node = node.input_value(0).get_node()
    return np.array(node.data) if node.get_type_name() == "Constant" else None


def _is_number(node: Any) -> bool:
    """Return whether it is a single constant number."""
    data = _constant(node)
    return data is not None and data.size == 1


def _wide(weights: _Quantized) -> Any:
    """Return weights of PIXELS neighboring pixels, in the form of dequantized integers."""
    from openvino import opset13 as ops

    out, channels, height, width = weights.values.shape
    shape = (PIXELS * out, channels, height, width + PIXELS - 1)
    wide = np.zeros(shape, weights.values.dtype)
    for pixel in range(PIXELS):
        wide[pixel * out : (pixel + 1) * out, :, :, pixel : pixel + width] = weights.values
    scales = np.tile(weights.scales, PIXELS).reshape(-1, 1, 1, 1)
    return ops.multiply(ops.convert(ops.constant(wide), "f32"), ops.constant(scales))


def _ancestors(convolution: Any) -> Iterator[str]:
    """Yield the names of all that a convolution's picture depends on."""
    waiting, seen = [convolution.input_value(0).get_node()], set[str]()
    while waiting:
        node = waiting.pop()
        name = node.get_friendly_name()
        if name not in seen:
            seen.add(name)
            yield name
            waiting += [value.get_node() for value in node.input_values()]
