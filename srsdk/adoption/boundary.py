"""Write srsdk's boundary around a network: uint8 NHWC RGB in and out, or floats.

TensorRT's order of operations, as in the files of `python -m export`: cast before transpose at the
input, transpose before cast at the output, clip and round before the last cast, which truncates.
"""

from __future__ import annotations

from typing import Literal

from srsdk.adoption.form import Form, Number
from srsdk.adoption.graph import GRAPH, INITIALIZER, INPUT, NODE, OUTPUT, Fields, graph_bytes
from srsdk.adoption.nodes import PREFIX, Writer, port
from srsdk.engines.protocol import VALUES
from srsdk.formats.protobuf import BYTES, Value, join, split

Kind = Literal["uint8", "unit", "raw"]
IMAGE, UPSCALED = PREFIX + "image", PREFIX + "upscaled"
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_VALUE_INFO = 13
_FIRST_WITH_ROUND = _FIRST_WITH_PADS = 11
"""Opset; in it, Clip and Pad take their limits and widths as inputs."""


def wrapped(model: bytes, form: Form, opset: int, scale: int, kind: Kind = "uint8") -> bytes:
    """Return the model with srsdk's boundary.

    Args:
        model: an ONNX file, its weights inside.
        form: its input and output.
        opset: its opset.
        scale: output size over input size; 0: not known yet.
        kind: NHWC pictures, `uint8`; `unit`: float32 of 0 to 1, neither clipped nor rounded;
            `raw`: float32 in the network's own range and order, to find these out.
    """
    fields = split(model)
    graph = split(graph_bytes(fields, "the model"))
    head, tail = Writer("head"), Writer("tail")
    _head(head, form, opset, kind)
    _tail(tail, form, opset, kind)
    # files of old exporters list their weights among the inputs
    weights = {_name(value) for number, _, value in graph if number == INITIALIZER}
    kept = [
        (n, w, v)
        for n, w, v in graph
        if n not in (NODE, INPUT, OUTPUT, _VALUE_INFO) or (n == INPUT and _name(v) in weights)
    ]
    nodes: Fields = [(NODE, BYTES, node) for node in head.nodes]
    nodes += [field for field in graph if field[0] == NODE]
    nodes += [(NODE, BYTES, node) for node in tail.nodes]
    constants = [(INITIALIZER, BYTES, each) for each in (*head.weights, *tail.weights)]
    inputs, output = _ports(form, scale, kind)
    ports = [*((INPUT, BYTES, each) for each in inputs), (OUTPUT, BYTES, output)]
    built: Fields = [*nodes, *constants, *ports, *kept]
    return join([(n, w, join(built) if n == GRAPH else v) for n, w, v in fields])


def _ports(form: Form, scale: int, kind: Kind) -> tuple[list[bytes], bytes]:
    batch: int | str = form.batch or "batch"
    sides: list[int | str] = list(form.tile_px or ("height", "width"))
    if form.tile_px and scale:
        large: list[int | str] = [side * scale for side in form.tile_px]
    else:
        large = ["out_height", "out_width"]
    dtype = "uint8" if kind == "uint8" else "float32"
    channels = out_channels = form.boundary_channels
    if kind == "raw":
        channels, out_channels = form.channels, form.output_channels
    inputs = [port(IMAGE, dtype, [batch, *sides, channels])]
    if form.numbers:
        inputs.append(port(VALUES, "float32", [len(form.numbers)]))
    return inputs, port(UPSCALED, dtype, [batch, *large, out_channels])


def _head(out: Writer, form: Form, opset: int, kind: Kind) -> None:
    """From the picture to the network's input, and to its further inputs."""
    x, is_bytes = IMAGE, form.is_bytes and kind == "uint8"
    if kind != "raw":
        if kind == "uint8" and not is_bytes:
            x = out.cast(x, "float32")
        if not is_bytes:
            x = _into_range(out, x, form, kind)
        if form.order == "bgr":
            x = _swapped(out, x, form.boundary_channels)
        if form.boundary_channels < form.channels:
            x = out.node("Concat", [x, _filled(out, x, _white(form))], axis=3)
    for index, number in enumerate(form.numbers):
        if not number.tensor:
            x = out.node("Concat", [x, _filled_by(out, x, index, number)], axis=3)
    if form.margin_px:
        x = _mirrored(out, x, form.margin_px, opset)
    plane = x
    if form.layout == "NCHW":
        x = out.node("Transpose", [x], perm=TO_NCHW)
    if is_bytes:
        # without a Cast, so that no form for more than 8 bits is derived from it
        out.node("Identity", [x], output=form.input)
    else:
        out.cast(x, form.dtypes[0], output=form.input)
    for index, number in enumerate(form.numbers):
        if number.tensor:
            _further_input(out, plane, form, index, number)


def _mirrored(out: Writer, x: str, margin_px: int, opset: int) -> str:
    """Mirror the picture outwards on all sides."""
    pads = [0, margin_px, margin_px, 0] * 2
    if opset < _FIRST_WITH_PADS:
        return out.node("Pad", [x], mode="reflect", pads=pads)
    return out.node("Pad", [x, out.constant(pads, "int64")], mode="reflect")


def _into_range(out: Writer, x: str, form: Form, kind: Kind) -> str:
    """Map levels to what the network reads, with the operations that its own pictures had."""
    low, high = form.range
    if (low, high) != (0.0, 255.0) or kind == "unit":
        if kind == "uint8":
            x = out.node("Div", [x, out.constant(255.0)])
        if high - low != 1.0:
            x = out.node("Mul", [x, out.constant(high - low)])
        if low:
            x = out.node("Add", [x, out.constant(low)])
    if any(form.mean):
        x = out.node("Sub", [x, out.constant(_in_rgb(form, form.mean, form.order))])
    if any(value != 1 for value in form.std):
        x = out.node("Div", [x, out.constant(_in_rgb(form, form.std, form.order))])
    return x


def _tail(out: Writer, form: Form, opset: int, kind: Kind) -> None:
    """From the network's output to the result."""
    raw = kind == "raw"
    is_bytes = form.dtypes[1] == "uint8" and kind == "uint8"
    y = form.output
    if form.dtypes[1] != "float32" and not is_bytes:
        y = out.cast(y, "float32")
    if form.layout == "NCHW":
        y = out.node("Transpose", [y], perm=TO_NHWC, output=UPSCALED if raw else "")
    elif raw:
        out.node("Identity", [y], output=UPSCALED)
    if raw:
        return
    if form.output_channels > form.boundary_channels:
        kept = out.constant(list(range(form.boundary_channels)), "int64")
        y = out.node("Gather", [y, kept], axis=3)
    if form.output_order == "bgr":
        y = _swapped(out, y, form.boundary_channels)
    if is_bytes:
        out.node("Identity", [y], output=UPSCALED)
        return
    y = _from_range(out, y, form, 1.0 if kind == "unit" else 255.0)
    if kind == "unit":
        out.node("Identity", [y], output=UPSCALED)
        return
    if opset >= _FIRST_WITH_ROUND:
        y = out.node("Clip", [y, out.constant(0.0), out.constant(255.0)])
        y = out.node("Round", [y])
    else:
        y = out.node("Clip", [y], min=0.0, max=255.0)
        # recognized by `srsdk.formats.onnx_rewrite`
        y = out.node("Add", [y, out.constant(0.5)])
        y = out.node("Floor", [y])
    out.cast(y, "uint8", output=UPSCALED)


def _from_range(out: Writer, y: str, form: Form, white: float) -> str:
    """Map what the network writes to 0..`white`."""
    low, high = form.output_range or form.range
    if form.output_range is None:
        if any(value != 1 for value in form.std):
            y = out.node("Mul", [y, out.constant(_in_rgb(form, form.std, form.output_order))])
        if any(form.mean):
            y = out.node("Add", [y, out.constant(_in_rgb(form, form.mean, form.output_order))])
    if low:
        y = out.node("Sub", [y, out.constant(low)])
    if high - low == white:
        return y
    if high - low != 1.0:
        y = out.node("Div", [y, out.constant(high - low)])
    return out.node("Mul", [y, out.constant(white)]) if white != 1.0 else y


def _further_input(out: Writer, plane: str, form: Form, index: int, number: Number) -> None:
    """Make a further input of a number: a scalar of any rank, or a map of the picture's size."""
    axes = (2, 3) if form.layout == "NCHW" else (1, 2)
    shape = number.shape
    is_map = len(shape) == 4 and all(shape[axis] != 1 for axis in axes)
    if is_map:
        value = _filled_by(out, plane, index, number)
        channels = shape[1 if form.layout == "NCHW" else 3] or 1
        if channels > 1:
            value = out.node("Concat", [value] * channels, axis=3)
        if form.layout == "NCHW":
            value = out.node("Transpose", [value], perm=TO_NCHW)
    else:
        sides = out.constant([side or 1 for side in shape], "int64")
        value = out.node("Reshape", [_number(out, index, number), sides])
    out.cast(value, number.dtype, output=number.tensor)


def _number(out: Writer, index: int, number: Number) -> str:
    """Return the number, (1,) float32."""
    value = out.node("Gather", [VALUES, out.constant([index], "int64")], axis=0)
    if number.divisor != 1:
        value = out.node("Div", [value, out.constant(number.divisor)])
    return value


def _filled_by(out: Writer, x: str, index: int, number: Number) -> str:
    return out.node("Add", [_zeros(out, x), _number(out, index, number)])


def _filled(out: Writer, x: str, value: float) -> str:
    """Return one channel of the picture's size with one value."""
    return out.node("Add", [_zeros(out, x), out.constant(value)])


def _zeros(out: Writer, x: str) -> str:
    first = out.node("Gather", [x, out.constant([0], "int64")], axis=3)
    return out.node("Mul", [first, out.constant(0.0)])


def _swapped(out: Writer, x: str, channels: int) -> str:
    """Return RGB(A) as BGR(A), or the other way round; gray as it is."""
    if channels < 3:
        return x
    order = out.constant([2, 1, 0, 3][:channels], "int64")
    return out.node("Gather", [x, order], axis=3)


def _in_rgb(form: Form, values: tuple[float, ...], order: str) -> list[float]:
    """Return one value, or those of the picture's channels in the order red, green, blue."""
    if order == "bgr" and len(values) > 1:
        values = (*values[2::-1], *values[3:])
    return list(values[: form.boundary_channels])


def _white(form: Form) -> float:
    """Return what the network reads as opaque alpha."""
    mean, std = (values[3] if len(values) > 3 else values[0] for values in (form.mean, form.std))
    return (form.range[1] - mean) / std


def _name(message: Value) -> str:
    """Return the name of an input or of a weight."""
    found = {
        n: v for n, w, v in split(message if isinstance(message, bytes) else b"")
        if w == BYTES and n in (1, 8)
    }  # fmt: skip
    value = found.get(8, found.get(1, b""))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
