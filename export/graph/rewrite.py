"""Rewrite ONNX graphs: add or remove the uint8 boundary, convert float32 to float16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.graph.layers import without_conv_behind
from export.graph.wrapper import INPUT, OUTPUT
from export.protocol import Facts


def wrap(body: onnx.ModelProto, layout: str, facts: Facts) -> onnx.ModelProto:
    """Add a uint8 NHWC boundary: cast, /255, layout; network; x255, clip, round, layout, cast."""
    model = onnx.compose.add_prefix(body, "body/", rename_inputs=True, rename_outputs=True)
    graph = model.graph
    inside, outside = graph.input[0].name, graph.output[0].name
    constants = {"scale255": 255.0, "level0": 0.0, "level255": 255.0}
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, np.float32), name)
        for name, value in constants.items()
    )
    first = layout == "NCHW"
    head = [
        helper.make_node("Cast", [INPUT], ["image_f"], to=TensorProto.FLOAT, name="head/cast"),
        helper.make_node(
            "Div", ["image_f", "scale255"], ["unit" if first else inside], name="head/div"
        ),
    ]
    tail = [
        helper.make_node("Mul", [outside, "scale255"], ["levels"], name="tail/mul"),
        helper.make_node("Clip", ["levels", "level0", "level255"], ["clipped"], name="tail/clip"),
        helper.make_node("Round", ["clipped"], ["round"], name="tail/round"),
    ]
    if first:
        head.append(
            helper.make_node("Transpose", ["unit"], [inside], perm=[0, 3, 1, 2], name="head/nchw")
        )
        tail.append(
            helper.make_node("Transpose", ["round"], ["nhwc"], perm=[0, 2, 3, 1], name="tail/nhwc")
        )
    last = "nhwc" if first else "round"
    tail.append(helper.make_node("Cast", [last], [OUTPUT], to=TensorProto.UINT8, name="tail/cast"))
    middle = list(graph.node)
    del graph.node[:]
    graph.node.extend([*head, *middle, *tail])
    _set_boundary(graph, TensorProto.UINT8, "NHWC", facts)
    return model


def rename(body: onnx.ModelProto, layout: str, facts: Facts) -> onnx.ModelProto:
    """Keep the float boundary, under our names."""
    model = onnx.compose.add_prefix(body, "body/", rename_inputs=True, rename_outputs=True)
    graph = model.graph
    middle = list(graph.node)
    head = helper.make_node("Identity", [INPUT], [graph.input[0].name], name="head/identity")
    tail = helper.make_node("Identity", [graph.output[0].name], [OUTPUT], name="tail/identity")
    del graph.node[:]
    graph.node.extend([head, *middle, tail])
    _set_boundary(graph, TensorProto.FLOAT, layout, facts)
    return model


def _set_boundary(graph: onnx.GraphProto, dtype: int, layout: str, facts: Facts) -> None:
    scale = facts.scale
    if facts.size_px:
        sizes: list[list[int | str]] = [[*facts.size_px], [side * scale for side in facts.size_px]]
    else:
        sizes = [["height", "width"], [f"{scale}*height", f"{scale}*width"]]
    batch: int | str = 1 if facts.size_px else "batch"
    shapes: list[list[int | str]] = [
        [batch, *size, facts.channels] if layout == "NHWC" else [batch, facts.channels, *size]
        for size in sizes
    ]
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, dtype, shapes[0]))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, dtype, shapes[1]))


def to_half(body: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in float16 with float32 input and output, using ONNX Runtime's converter.

    Raises:
        ExportError: the converted graph has a cycle.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    tail = without_conv_behind(body.graph)
    copy = onnx.ModelProto()
    copy.CopyFrom(body)
    for index, node in enumerate(copy.graph.node):
        node.name = node.name or f"node{index}"
    # keep the sum behind the last convolution in float32: float16 resolves only 1/8 of a level
    kept = [copy.graph.node[i].name for i in tail if copy.graph.node[i].op_type != "Conv"]
    half: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True, node_block_list=kept)
    sort(half.graph)
    return half


def sort(graph: onnx.GraphProto) -> None:
    """Sort the nodes topologically."""
    made = {name for node in graph.node for name in node.output}
    waiting, ready = list(graph.node), []
    while waiting:
        later = []
        for node in waiting:
            if any(name in made for name in node.input):
                later.append(node)
            else:
                ready.append(node)
                made.difference_update(node.output)
        if len(later) == len(waiting):
            raise ExportError("the graph has a cycle: its nodes read each other's results")
        waiting = later
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ready]
    del graph.node[:]
    graph.node.extend(nodes)


def unwrap(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove our own uint8 boundary, so that every source is a float graph.

    Raises:
        ExportError: the boundary is uint8, but not in the form that `export` writes.
    """
    nodes = list(model.graph.node)
    heads, tails = [n.op_type for n in nodes[:3]], [n.op_type for n in nodes[-5:]]
    if heads != ["Cast", "Div", "Transpose"] or tails[1:] != ["Clip", "Round", "Transpose", "Cast"]:
        raise ExportError(
            f"{path}: its uint8 boundary is {heads} .. {tails}, expected one that `export` wrote; "
            "start from the checkpoint or from a float32 ONNX file"
        )
    inside, outside = nodes[2].output[0], nodes[-5].input[0]
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.graph.node.extend(nodes[3:-5])
    shape = ["batch", 3, "height", "width"]
    model.graph.input.append(helper.make_tensor_value_info(inside, TensorProto.FLOAT, shape))
    shape = ["batch", 3, "out_height", "out_width"]
    model.graph.output.append(helper.make_tensor_value_info(outside, TensorProto.FLOAT, shape))
    return model
