"""Prepare an OpenVINO graph to be compiled for any picture size."""

from __future__ import annotations

from typing import Any

import numpy as np

_FIT = frozenset(
    [
        "Add",
        "Broadcast",
        "Concat",
        "Constant",
        "Convert",
        "Convolution",
        "DepthToSpace",
        "Divide",
        "Exp",
        "FakeQuantize",
        "Maximum",
        "Minimum",
        "Multiply",
        "Negative",
        "Parameter",
        "Relu",
        "Reshape",
        "Result",
        "Round",
        "ShapeOf",
        "Slice",
        "Split",
        "Subtract",
        "Transpose",
        "VariadicSplit",
    ]
)
_SPLIT, _STACK = "boundary.split", "boundary.stack"
"""Names that `python -m export` gives to the end of an INT8 graph (`integer_io`)."""


def fits_any_size(model: Any) -> bool:
    """Return whether a graph gives the same bits compiled for any size as for one.

    That is tested for the operators of the shipped networks; a graph with any other is compiled for
    each size, and so is INT8 with a DepthToSpace, such as ae_x1.int8, where 2 levels differ.
    What is computed from numbers beside the picture alone does not count: its sizes are fixed.
    """
    types = _types_of_any_size(model)
    return types <= _FIT and not types >= {"FakeQuantize", "DepthToSpace"}


def _types_of_any_size(model: Any) -> set[str]:
    """Return the types of the operators that inputs without a fixed size reach."""
    inputs = [port.get_node() for port in model.inputs if port.get_partial_shape().is_dynamic]
    reached = {node.get_friendly_name() for node in inputs}
    types = {node.get_type_name() for node in inputs}
    for node in model.get_ordered_ops():
        sources = (value.get_node().get_friendly_name() for value in node.input_values())
        if not reached.isdisjoint(sources):
            reached.add(node.get_friendly_name())
            types.add(node.get_type_name())
    return types


def for_any_size(model: Any) -> Any:
    """Return the graph to compile for any size, which computes the same.

    INT8 graphs enlarge by splitting channels last in memory, which OpenVINO 2026.4 does quickly
    only if it knows the size: otherwise a third of gan_x4.int8's time goes there. One transposition
    with the channels first takes 8 ms instead of 26 (443x317, 2 cores).
    """
    nodes = {node.get_friendly_name(): node for node in model.get_ops()}
    split, stack = nodes.get(_SPLIT), nodes.get(_STACK)
    image = model.inputs[0]
    if split is None or stack is None or len(model.inputs) != 1 or len(model.outputs) != 1:
        return model
    packed, scale = split.input(0).get_source_output(), split.get_output_size()
    channels, colors = packed.get_partial_shape()[1], image.get_partial_shape()[3]
    if channels.is_dynamic or colors.is_dynamic:
        return model
    if channels.get_length() != colors.get_length() * scale**2:
        return model
    return _enlarged(image, packed, scale, colors.get_length())


def _enlarged(image: Any, packed: Any, scale: int, colors: int) -> Any:
    """Return a model that ends by enlarging `packed`, (N, scale * scale * colors, H, W), to pixels.

    Its channels are ordered by row, column and color within the enlarged pixel.
    """
    import openvino as ov
    from openvino import opset13 as op

    def constant(values: list[int]) -> Any:
        return op.constant(np.array(values, np.int64))

    size = op.gather(op.shape_of(packed), constant([2, 3]), constant([0]))
    in_rows = op.concat([constant([0, scale, colors * scale]), size], 0)
    turned = op.transpose(op.reshape(packed, in_rows, True), constant([0, 3, 1, 4, 2]))
    picture = op.gather(op.shape_of(image), constant([0, 1, 2]), constant([0]))
    enlarged = op.multiply(picture, constant([1, scale, scale]))
    whole = op.concat([enlarged, constant([colors])], 0)
    return ov.Model([op.result(op.reshape(turned, whole, False))], [image.get_node()], "any size")
