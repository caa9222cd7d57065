"""Leave out the pixel shuffle at the end of an INT8 graph: the caller shuffles while it copies.

INT8 files for CPUs (`export.quantization.integer_io`) end in bytes of shape (N, C, H, W), which
OpenVINO keeps in the order N, H, W, C. A Split, a Concat and a Reshape then put each byte at its
place in the picture. OpenVINO runs these in reference kernels; afterwards the runtime copies the
picture once more, into the user's array. Without them the graph ends earlier, and that copy puts
each byte at its place: see `inference.blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from srsdk.engines.compiled.openvino_fold import PIXELS, fold

MAX_BLOCK_ROW_BYTES = 8
"""Blocks with longer rows are still split into rows of pixels by OpenVINO: copying 921,600 rows of
12 bytes (gan_x4 at 640x360) takes 2.7 ms with numpy, splitting them 1.3."""

Buffer = npt.NDArray[Any]


def without_shuffle(model: Any) -> Any:
    """Return the model without its last pixel shuffle; a model of any other form as it is.

    Args:
        model: an `openvino.Model` of static shapes.
    """
    parts = _split(model)
    if not parts:
        return model
    channels = parts[0].get_output_shape(0)[3] * len(parts)
    if channels // len(parts) <= MAX_BLOCK_ROW_BYTES:
        outputs = [_as_pixels(_source(parts[0]))]
    else:
        outputs = [_as_rows(part) for part in parts]
    return _model(outputs, model)


def outputs_for(
    shapes: Sequence[tuple[int, ...]], input_shape: tuple[int, ...], dtype: str
) -> tuple[list[Buffer], Buffer]:
    """Allocate what a model writes, and return it with the view that the engine returns.

    Args:
        shapes: shapes of the outputs of the compiled model.
        input_shape: (N, H, W, C); ignored if the model has its shuffle.
        dtype: of the output.

    Returns:
        One contiguous array for each output; and the picture (N, H * s, W * s, C), or blocks of
        pixels (N, H, s, W, s, C) if the model lacks its shuffle.
    """
    buffer = np.empty((len(shapes), *shapes[0]), dtype)
    buffers = list(buffer)
    if len(shapes[0]) != 3:
        return buffers, buffers[0]
    n, height, width, channels = input_shape
    if len(shapes) == 1:
        scale = math.isqrt(math.prod(shapes[0]) // math.prod(input_shape))
        blocks = buffer.reshape(n, height, width, scale, scale, channels)
        return buffers, blocks.transpose(0, 1, 3, 2, 4, 5)
    scale = len(shapes)
    blocks = buffer.reshape(scale, n, height, width, scale, channels)
    return buffers, blocks.transpose(1, 2, 0, 3, 4, 5)


def _split(model: Any) -> list[Any]:
    """Return the Transposes (N, H, W, C / s) after the last Split, in order; []: another form."""
    if len(model.outputs) != 1 or model.is_dynamic():
        return []
    last = _source(model.outputs[0].get_node())
    stack = _source(last)
    if (last.get_type_name(), stack.get_type_name()) != ("Reshape", "Concat"):
        return []
    flat = [value.get_node() for value in stack.input_values()]
    if any(node.get_type_name() != "Reshape" for node in flat):
        return []
    parts = [_source(node) for node in flat]
    if not all(map(_is_to_nhwc, parts)):
        return []
    split = _source(parts[0])
    order = [_origin(part) for part in parts]
    if order != [(split.get_name(), index) for index in range(split.get_output_size())]:
        return []
    picture = list(model.inputs[0].get_shape())
    return parts if _is_shuffle(picture, split, flat, stack, last) else []


def _is_shuffle(picture: list[int], split: Any, flat: list[Any], stack: Any, last: Any) -> bool:
    """Return whether the shapes are those of a pixel shuffle of bytes, from (N, H, W, C)."""
    source = split.input_value(0)
    n, channels, height, width = source.get_shape()
    scale = len(flat)
    is_of_bytes = source.get_element_type().get_type_name() == "u8"
    if channels % scale**2 or not is_of_bytes or "Split" not in split.get_type_name():
        return False
    row = channels // scale * width
    colors = channels // scale**2
    made: bool = (
        picture == [n, height, width, colors]
        and all(list(node.get_output_shape(0)) == [n, height, 1, row] for node in flat)
        and list(stack.get_output_shape(0)) == [n, height, scale, row]
        and list(last.get_output_shape(0)) == [n, height * scale, width * scale, colors]
    )
    return made


def _is_to_nhwc(node: Any) -> bool:
    if node.get_type_name() != "Transpose":
        return False
    order = node.input_value(1).get_node()
    return bool(order.get_type_name() == "Constant" and order.data.tolist() == [0, 2, 3, 1])


def _source(node: Any) -> Any:
    return node.input_value(0).get_node()


def _origin(node: Any) -> tuple[str, int]:
    """Return which output of which node a node reads; `==` of two nodes would add a node."""
    value = node.input_value(0)
    return value.get_node().get_name(), value.get_index()


def _as_pixels(split: Any) -> Any:
    """Return the bytes before the Split as (N, H * W, C), or a few pixels at a time (`fold`).

    OpenVINO treats a transpose of three dimensions as another reading of the same memory, but
    copies for one of four directly after a convolution's sum.
    """
    from openvino import opset13 as ops

    source = split.input_value(0)
    n, channels, height, width = source.get_shape()
    if fold(source.get_node()):
        # neighboring pixels have become one with all their channels, in the same memory
        channels, width = channels * PIXELS, width // PIXELS
    planes = ops.reshape(source, np.array([n, channels, height * width]), special_zero=False)
    return ops.transpose(planes, np.array([0, 2, 1]))


def _as_rows(part: Any) -> Any:
    """Return a part of the Split as rows of pixels, (N, H, W * C / s)."""
    from openvino import opset13 as ops

    n, height, width, channels = part.get_output_shape(0)
    return ops.reshape(part, np.array([n, height, width * channels]), special_zero=False)


def _model(outputs: list[Any], model: Any) -> Any:
    import openvino as ov

    results = [ov.opset13.result(node) for node in outputs]
    made = ov.Model(results, model.get_parameters(), model.get_friendly_name())
    made.validate_nodes_and_infer_types()
    return made
