"""Integer input and output of the INT8 graph for CPUs: bytes in, bytes out, no floats between.

The bytes of a picture are already INT8 codes, and rounding to a level is quantization with a step
of 1/255. So `Cast, Div` becomes DequantizeLinear, `Mul, Clip, Round, Cast` becomes Clip and one
QuantizeLinear before the pixel shuffle, and the anchor, which repeats pixels, stays in bytes. None
of this changes a pixel. A backend can then fuse the last convolution with its sum and write bytes,
where it wrote and read floats three times.

Each step matches the form that `graph.wrapper` and `graph.rewrite` write, and leaves any other form
unchanged. `srsdk.formats.onnx_rewrite` recognizes the nodes whose names begin with `boundary.` and
removes them for pictures of more than 8 bits.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export.graph.layers import PICTURE_CHANNELS, Layer, conv_layers, weights_of
from export.graph.nodes import (
    add,
    attribute,
    constant,
    maker,
    only,
    readers,
    redirect,
    tidy,
    value,
)
from export.quantization.qdq import quantize_weight

STEP = np.float32(1 / 255)
"""One level of a picture whose white is 1."""
NHWC_TO_NCHW, NCHW_TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
BEHIND_SHUFFLE = ("Cast", "Transpose", "Round", "Clip", "Mul")


def reorder_for_row_copies(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same float network with the channels before its last shuffle in DCR order.

    The pixels of one output row are then adjacent, so they are copied instead of gathered. A
    network that does not end in a shuffle of a convolution, or of a sum of convolutions, is
    returned unchanged. A nearest-neighbor skip connection added after the shuffle, as in
    SRVGGNetCompact, becomes a repetition of pixels added before it.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    _anchor_before_shuffle(graph)
    shuffle = _last_shuffle(graph)
    convs = _writers(graph, shuffle.input[0]) if shuffle is not None else []
    if shuffle is None or not convs or attribute(shuffle, "mode", b"DCR") != b"CRD":
        return model
    names = [name for conv in convs for name in conv.input[1:] if name]
    stored = {tensor.name for tensor in graph.initializer}
    used = Counter(name for node in graph.node for name in node.input)
    if any(name not in stored or used[name] > 1 for name in names):
        return model
    places = attribute(shuffle, "blocksize") ** 2
    for tensor in graph.initializer:
        if tensor.name in names:
            values = numpy_helper.to_array(tensor)
            by_place = values.reshape(-1, places, *values.shape[1:]).swapaxes(0, 1)
            ordered = np.ascontiguousarray(by_place).reshape(values.shape)
            tensor.CopyFrom(numpy_helper.from_array(ordered, tensor.name))
    next(a for a in shuffle.attribute if a.name == "mode").s = b"DCR"
    return result


def use_integer_io(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the quantized graph with integer input and output, as far as its form allows."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    unit = _integer_input(graph)
    if not unit or not _integer_output(graph):
        return model
    for layer in conv_layers(result):
        if layer.source == unit and _repeats(result, layer):
            _keep_anchor(result, layer)
            break
    _copy_rows(graph)
    tidy(graph)
    return result


def _anchor_before_shuffle(graph: onnx.GraphProto) -> None:
    """Turn `shuffle(x) + nearest(picture)` into the equivalent `shuffle(x + repeat(picture))`."""
    node = _behind_shuffle(graph)
    if node is None or node.op_type != "Add":
        return
    made = [maker(graph, name) for name in node.input]
    for shuffle, resize in (made, made[::-1]):
        if shuffle is None or resize is None or shuffle.op_type != "DepthToSpace":
            continue
        block, colors = attribute(shuffle, "blocksize"), _channels(graph, shuffle.input[0])
        colors //= block**2
        alone = len(readers(graph, shuffle.output[0])) == len(readers(graph, shuffle.input[0])) == 1
        if not (alone and colors and _is_nearest(graph, resize, block)):
            continue
        # in the order of DepthToSpace: color by color (CRD), or place by place (DCR)
        by_color = np.repeat(np.eye(colors, dtype=np.float32), block**2, axis=0)
        by_place = np.tile(np.eye(colors, dtype=np.float32), (block**2, 1))
        kernel = by_color if attribute(shuffle, "mode", b"DCR") == b"CRD" else by_place
        weight = constant(graph, "boundary.repeat", kernel[:, :, None, None])
        add(graph, "Conv", "boundary.repeats", [resize.input[0], weight], ["boundary.repeated"])
        total = [shuffle.input[0], "boundary.repeated"]
        add(graph, "Add", "boundary.sum", total, ["boundary.summed"])
        shuffle.input[0], result = "boundary.summed", node.output[0]
        redirect(graph, result, shuffle.output[0])
        tidy(graph)
        return


def _is_nearest(graph: onnx.GraphProto, node: onnx.NodeProto, times: int) -> bool:
    """Return whether a node repeats each pixel `times` times in both directions."""
    wanted = {
        "mode": b"nearest",
        "coordinate_transformation_mode": b"asymmetric",
        "nearest_mode": b"floor",
    }
    if node.op_type != "Resize" or any(attribute(node, n) != v for n, v in wanted.items()):
        return False
    scales = [numpy_helper.to_array(t) for t in graph.initializer if t.name == node.input[2]]
    return len(node.input) == 3 and [list(s) for s in scales] == [[1, 1, times, times]]


def _integer_input(graph: onnx.GraphProto) -> str:
    """Turn `Cast, Div, Transpose` into `Transpose, DequantizeLinear`; return its output, or ""."""
    image = graph.input[0]
    cast = only(graph, image.name, "Cast")
    divide = only(graph, cast.output[0], "Div") if cast else None
    turn = only(graph, divide.output[0], "Transpose") if divide else None
    if image.type.tensor_type.elem_type != TensorProto.UINT8 or divide is None or turn is None:
        return ""
    if value(graph, divide.input[1]) != 255 or attribute(turn, "perm") != NHWC_TO_NCHW:
        return ""
    unit, planes = str(turn.output[0]), "boundary.planes"
    if any(node.op_type == "Conv" and not _copies(graph, node) for node in readers(graph, unit)):
        # ONNX Runtime 1.32 would quantize this float head itself, coarsely (0.08 dB on Set5)
        return ""
    turn.input[0], turn.output[0] = image.name, planes
    add(graph, "DequantizeLinear", "boundary.head", [planes, *_levels(graph)], [unit])
    return _as_quantized(graph, unit)


def _as_quantized(graph: onnx.GraphProto, unit: str) -> str:
    """Insert one QuantizeLinear before all readers of the picture; return its dequantized output.

    It reproduces the picture's bytes. OpenVINO on ARM64 (2026.4) rejects a convolution of bytes
    that no QuantizeLinear wrote; on x86-64 the kernels are the same with and without it.
    """
    read, written = ["boundary.units", *_levels(graph)], "boundary.picture"
    for quantize in readers(graph, unit):
        if quantize.op_type != "QuantizeLinear":
            continue
        # its input holds such bytes: quantizing them by the same step reproduces them
        same = [value(graph, name) for name in quantize.input[1:3]] == [float(STEP), 0]
        back = only(graph, quantize.output[0], "DequantizeLinear")
        if same and back is not None:
            redirect(graph, back.output[0], unit)
    redirect(graph, unit, written)
    add(graph, "QuantizeLinear", "boundary.head.quantize", [unit, *read[1:]], [read[0]])
    add(graph, "DequantizeLinear", "boundary.head.dequantize", read, [written])
    return written


def _integer_output(graph: onnx.GraphProto) -> bool:
    """Turn `Mul, Clip, Round, Transpose, Cast` into `Clip, QuantizeLinear, Transpose`."""
    output = graph.output[0].name
    chain: list[onnx.NodeProto] = []
    while len(chain) < 5 and (node := maker(graph, chain[-1].input[0] if chain else output)):
        chain.append(node)
    if [node.op_type for node in chain] != ["Cast", "Transpose", "Round", "Clip", "Mul"]:
        return False
    cast, turn, _, clip, times = chain
    bounds = [value(graph, name) for name in (*clip.input[1:3], times.input[1])]
    if bounds != [0, 255, 255] or attribute(turn, "perm") != NCHW_TO_NHWC:
        return False
    source, made = times.input[0], "boundary.bytes"
    shuffle = _last_shuffle(graph)
    if shuffle is not None and shuffle.output[0] == source:
        # the shuffle only moves values, so it can move bytes
        source, shuffle.input[0], turn.input[0] = shuffle.input[0], made, shuffle.output[0]
    else:
        turn.input[0] = made
    turn.output[0] = output
    graph.node.remove(cast)
    bounded = [source, *(constant(graph, f"boundary.{v}", np.float32(v)) for v in (0, 1))]
    add(graph, "Clip", "boundary.clip", bounded, ["boundary.unit"])
    add(graph, "QuantizeLinear", "boundary.tail", ["boundary.unit", *_levels(graph)], [made])
    return True


def _repeats(model: onnx.ModelProto, layer: Layer) -> bool:
    """Return whether each output channel of a layer is a copy of one input channel."""
    return _copies(model.graph, model.graph.node[layer.index])


def _copies(graph: onnx.GraphProto, conv: onnx.NodeProto) -> bool:
    stored = [t for t in graph.initializer if t.name == conv.input[1]]
    if not stored or len(conv.input) > 2 or _is_grouped(conv):
        return False
    weight = numpy_helper.to_array(stored[0])
    flat = weight.reshape(len(weight), -1)
    is_small = flat.shape[1] <= PICTURE_CHANNELS and weight.shape[2:] == (1, 1)
    return bool(is_small and np.isin(flat, (0, 1)).all() and (flat.sum(axis=1) == 1).all())


def _keep_anchor(model: onnx.ModelProto, layer: Layer) -> None:
    """Quantize a convolution that only repeats the picture's pixels, so its output is bytes.

    OpenVINO then adds it inside the last convolution; floats would need a conversion.
    """
    graph = model.graph
    node = graph.node[layer.index]
    codes, scale = quantize_weight(weights_of(model, layer.weight))
    names = [f"{layer.weight}.{part}" for part in ("int", "scale", "zero")]
    for name, values in zip(names, (codes, scale.step, scale.zero), strict=True):
        constant(graph, name, values)
    weight, result = f"{layer.weight}.dq", node.output[0]
    node.input[1], node.output[0] = weight, "boundary.anchor"
    add(graph, "DequantizeLinear", f"{layer.weight}.dequantize", names, [weight], axis=0)
    read, kept = ["boundary.anchor", *_levels(graph)], ["boundary.anchor.q"]
    add(graph, "QuantizeLinear", "boundary.anchor.quantize", read, kept)
    read = [*kept, *_levels(graph)]
    add(graph, "DequantizeLinear", "boundary.anchor.dequantize", read, [result])


def _copy_rows(graph: onnx.GraphProto) -> None:
    """Turn a shuffle of bytes in DCR order into copies of whole rows.

    OpenVINO's DepthToSpace moves single bytes: for gan_x4 at 320x180 it takes 2.3 to 5 of 16 ms,
    this 0.7. The split is by channels and comes before the transpose, because OpenVINO does not
    treat a transpose directly after a convolution's sum as a mere change of layout.
    """
    result = graph.output[0].name
    turn = maker(graph, result)
    shuffle = maker(graph, turn.input[0]) if turn is not None else None
    if turn is None or shuffle is None or shuffle.op_type != "DepthToSpace":
        return
    block = attribute(shuffle, "blocksize")
    channels = _channels(graph, shuffle.input[0])
    if attribute(shuffle, "mode", b"DCR") != b"DCR" or not channels:
        return
    parts = [f"boundary.part{i}" for i in range(block)]
    widths = constant(graph, "boundary.widths", np.full(block, channels // block, np.int64))
    add(graph, "Split", "boundary.split", [shuffle.input[0], widths], parts, axis=1)
    row = constant(graph, "boundary.row", np.array([0, 0, 1, -1], np.int64))
    for part in parts:
        pixels, flat = f"{part}.nhwc", f"{part}.row"
        add(graph, "Transpose", f"{part}.turn", [part], [pixels], perm=NCHW_TO_NHWC)
        add(graph, "Reshape", f"{part}.flatten", [pixels, row], [flat])
    rows, size, large = "boundary.rows", "boundary.size", "boundary.large"
    add(graph, "Concat", "boundary.stack", [f"{part}.row" for part in parts], [rows], axis=2)
    add(graph, "Shape", "boundary.measure", [f"{parts[0]}.nhwc"], [size], start=0, end=3)
    times = constant(graph, "boundary.times", np.array([1, block, block], np.int64))
    add(graph, "Mul", "boundary.enlarge", [size, times], [large])
    colors = constant(graph, "boundary.colors", np.array([channels // block**2], np.int64))
    add(graph, "Concat", "boundary.whole", [large, colors], ["boundary.shape"], axis=0)
    graph.node.remove(turn)
    add(graph, "Reshape", "boundary.lay", [rows, "boundary.shape"], [result])


def _last_shuffle(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """Return the DepthToSpace that only rounding and layout follow, else None."""
    node = _behind_shuffle(graph)
    if node is None or node.op_type != "DepthToSpace":
        return None
    alone = all(len(readers(graph, name)) == 1 for name in (node.input[0], node.output[0]))
    return node if alone else None


def _behind_shuffle(graph: onnx.GraphProto) -> onnx.NodeProto | None:
    """Return the last node that is neither rounding nor layout."""
    node = maker(graph, graph.output[0].name)
    while node is not None and node.op_type in BEHIND_SHUFFLE:
        node = maker(graph, node.input[0])
    return node


def _writers(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """Return the ungrouped convolutions that a tensor is the sum of; empty: it is no such sum."""
    node = maker(graph, name)
    names = list(node.input) if node is not None and node.op_type == "Add" else [name]
    made = [(maker(graph, n), len(readers(graph, n)) == 1) for n in names]
    good = [n for n, alone in made if n and alone and n.op_type == "Conv" and not _is_grouped(n)]
    return good if len(good) == len(made) else []


def _is_grouped(node: onnx.NodeProto) -> bool:
    return bool(attribute(node, "group", 1) > 1)


def _channels(graph: onnx.GraphProto, name: str) -> int:
    """Return the output channels of the convolution that produces a tensor; 0: unknown."""
    between = ("QuantizeLinear", "DequantizeLinear", "Clip", "Add")
    node = maker(graph, name)
    while node is not None and node.op_type in between:
        node = maker(graph, node.input[0])
    if node is None or node.op_type != "Conv":
        return 0
    weight = maker(graph, node.input[1])
    stored = weight.input[0] if weight is not None else node.input[1]
    return next((int(t.dims[0]) for t in graph.initializer if t.name == stored), 0)


def _levels(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the step and zero point of a picture's bytes."""
    step = constant(graph, "boundary.step", STEP)
    return [step, constant(graph, "boundary.zero", np.uint8(0))]
