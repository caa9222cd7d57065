"""Rewrite an ONNX graph when it is opened: float input and output, or mixed weights.

A file ends in Round and Cast to uint8; without them the same network handles pictures of more than
8 bits. Two files of the same architecture can be mixed weight by weight. Both rewrites work on the
file's bytes, so neither needs the onnx package or another file on disk. Field numbers: onnx.proto
of https://github.com/onnx/onnx.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np

from srsdk.errors import ModelError, UsageError
from srsdk.formats.onnx_metadata import GRAPH, check_onnx
from srsdk.formats.protobuf import BYTES, Value, join, split

Fields = list[tuple[int, int, Value]]

NODE, INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 5, 11, 12
NODE_INPUT, NODE_OUTPUT, NODE_NAME, OP_TYPE, ATTRIBUTE = 1, 2, 3, 4, 5
ATTRIBUTE_INT = 3
PORT_TYPE, TENSOR_TYPE, ELEMENT = 2, 1, 1
DIMS, DATA_TYPE, TENSOR_NAME, RAW_DATA = 1, 2, 8, 9
FLOAT, UINT8 = 1, 2

ROUNDING, AS_FLOATS = b"boundary.", {b"QuantizeLinear": b"Div", b"DequantizeLinear": b"Mul"}
"""Name prefix of the nodes with which an INT8 file for CPUs reads and writes bytes, and the float
replacements of their operators."""
ROUND = (b"Round", b"Floor")
"""Operators that round."""
HALF = b"srsdk.tail.add"
"""Name prefix of the node that adds 0.5 before Floor, in files older than opset 11, which brought
Round (`srsdk.adoption.boundary`)."""
KEEP_VALUES = (b"Transpose", b"Cast", b"Identity")
"""Operators allowed between the rounding and the output."""


def with_float_boundary(model: bytes) -> bytes:
    """Return the model with float32 input and output, both in 0..255 and not rounded.

    Args:
        model: an ONNX file with uint8 input and output, as written by `python -m export`: it casts
            its input, and clips, rounds and casts its output, or quantizes both.

    Raises:
        ModelError: the graph has another form.
    """
    fields = split(model)
    graph = split(_bytes(_first(fields, GRAPH)))
    inputs, outputs = (_ports(graph, number) for number in (GRAPH_INPUT, GRAPH_OUTPUT))
    if not inputs or not outputs:
        raise ModelError("the model's graph has no input or no output")
    nodes = {i: split(_bytes(v)) for i, (n, _, v) in enumerate(graph) if n == NODE}
    boundary = _quantized_boundary(nodes)
    if not boundary:
        _check_head(nodes, inputs[0][1])
        boundary = _tail(nodes, outputs[0][1])
    for index in boundary:
        _make_float(nodes[index])
        graph[index] = (NODE, BYTES, join(nodes[index]))
    for (index, _), number in ((inputs[0], GRAPH_INPUT), (outputs[0], GRAPH_OUTPUT)):
        graph[index] = (number, BYTES, _as_float(_bytes(graph[index][2])))
    return _with_graph(fields, graph)


def mixed(parent: bytes, textured: bytes, texture: float) -> bytes:
    """Return the parent's model with weights (1 - texture) * parent + texture * textured.

    Network interpolation, Wang et al. 2018 (ESRGAN, arXiv:1809.00219).

    Raises:
        UsageError: `texture` is outside 0..1.
        ModelError: the files differ in more than the values of float32 weights.
    """
    if not 0 <= texture <= 1:
        raise UsageError(f"texture is {texture!r}, expected 0 (fidelity) to 1 (texture)")
    check_onnx(BytesIO(textured), len(textured), "the textured twin")
    fields = split(parent)
    graph = split(_bytes(_first(fields, GRAPH)))
    others = _weights(split(_bytes(_first(split(textured), GRAPH))))
    if set(_weights(graph)) != set(others):
        raise ModelError("weights of different architectures cannot be mixed: their names differ")
    for index, (number, _, value) in enumerate(graph):
        if number != INITIALIZER:
            continue
        tensor = split(_bytes(value))
        other = others[_bytes(_first(tensor, TENSOR_NAME))]
        graph[index] = (INITIALIZER, BYTES, join(_mix(tensor, other, texture)))
    return _with_graph(fields, graph)


def _mix(tensor: Fields, other: Fields, texture: float) -> Fields:
    name = _bytes(_first(tensor, TENSOR_NAME)).decode("utf-8", "replace")
    if [f for f in tensor if f[0] != RAW_DATA] != [f for f in other if f[0] != RAW_DATA]:
        raise ModelError(f"weights of different architectures cannot be mixed: {name} differs")
    a, b = (_bytes(_first(t, RAW_DATA)) for t in (tensor, other))
    if a == b:
        return tensor
    if len(a) != len(b) or len(a) % 4:
        raise ModelError(
            f"weights {name} of the two files have {len(a)} and {len(b)} bytes, expected as many "
            "float32 values in both"
        )
    if _first(tensor, DATA_TYPE) != FLOAT:
        raise ModelError(f"only float32 files can be mixed; {name} has another type")
    left, right = (np.frombuffer(data, "<f4") for data in (a, b))
    # not lerp: at 0 and 1 the result is exactly one of the two
    both = np.float32(1 - texture) * left + np.float32(texture) * right
    return [(n, w, both.tobytes() if n == RAW_DATA else v) for n, w, v in tensor]


def _weights(graph: Fields) -> dict[bytes, Fields]:
    tensors = [split(_bytes(value)) for number, _, value in graph if number == INITIALIZER]
    return {_bytes(_first(tensor, TENSOR_NAME)): tensor for tensor in tensors}


def _quantized_boundary(nodes: dict[int, Fields]) -> list[int]:
    """Return the nodes that convert from and to bytes at the input and output of an INT8 file."""
    return [
        index
        for index, node in nodes.items()
        if _bytes(_first(node, NODE_NAME)).startswith(ROUNDING)
        and _first(node, OP_TYPE) in AS_FLOATS
    ]


def _check_head(nodes: dict[int, Fields], name: bytes) -> None:
    for node in nodes.values():
        if (NODE_INPUT, BYTES, name) in node and _first(node, OP_TYPE) != b"Cast":
            kind = _bytes(_first(node, OP_TYPE)).decode("utf-8", "replace")
            raise _other_form(f"its input feeds {kind if kind.isidentifier() else repr(kind)}")


def _tail(nodes: dict[int, Fields], name: bytes) -> list[int]:
    """Return the nodes from the output back to the rounding."""
    producers = {_bytes(v): i for i, node in nodes.items() for n, _, v in node if n == NODE_OUTPUT}
    found = list[int]()
    while name in producers and producers[name] not in found:
        index = producers[name]
        found.append(index)
        kind = _bytes(_first(nodes[index], OP_TYPE))
        if kind in ROUND:
            before = producers.get(_bytes(_first(nodes[index], NODE_INPUT)), -1)
            if before >= 0 and _is_half(nodes[before]):
                found.append(before)
            return found
        if kind not in KEEP_VALUES:
            break
        name = _bytes(_first(nodes[index], NODE_INPUT))
    raise _other_form("its output is not rounded and cast")


def _is_half(node: Fields) -> bool:
    return _bytes(_first(node, NODE_NAME)).startswith(HALF)


def _make_float(node: Fields) -> None:
    """Turn Round into Identity, Cast to uint8 into Cast to float32, quantization into Div/Mul."""
    kind = _first(node, OP_TYPE)
    if _is_half(node):
        first = next(field for field in node if field[0] == NODE_INPUT)
        node[:] = [first, *(field for field in node if field[0] != NODE_INPUT)]
    if kind in AS_FLOATS:
        inputs = [field for field in node if field[0] == NODE_INPUT]
        # the third is the zero point, which is 0
        node[:] = [field for field in node if field[0] not in (NODE_INPUT, ATTRIBUTE)]
        node[:0] = inputs[:2]
    for at, (number, wire, value) in enumerate(node):
        if number == OP_TYPE and (kind in ROUND or _is_half(node)):
            node[at] = (number, wire, b"Identity")
        if number == OP_TYPE and kind in AS_FLOATS:
            node[at] = (number, wire, AS_FLOATS[kind])
        if number == ATTRIBUTE and kind == b"Cast":
            attribute = [
                (n, w, FLOAT if n == ATTRIBUTE_INT and v == UINT8 else v)
                for n, w, v in split(_bytes(value))
            ]
            node[at] = (number, wire, join(attribute))


def _as_float(port: bytes) -> bytes:
    return _nested(port, (PORT_TYPE, TENSOR_TYPE), _element_float)


def _element_float(tensor_type: bytes) -> bytes:
    return join([(n, w, FLOAT if n == ELEMENT else v) for n, w, v in split(tensor_type)])


def _nested(message: bytes, path: tuple[int, ...], change: Callable[[bytes], bytes]) -> bytes:
    if not path:
        return change(message)
    return join(
        [
            (n, w, _nested(_bytes(v), path[1:], change) if n == path[0] else v)
            for n, w, v in split(message)
        ]
    )


def _ports(graph: Fields, number: int) -> list[tuple[int, bytes]]:
    """Return (index, name) of the graph's inputs or outputs."""
    return [
        (i, _bytes(_first(split(_bytes(v)), 1))) for i, (n, _, v) in enumerate(graph) if n == number
    ]


def _with_graph(fields: Fields, graph: Fields) -> bytes:
    return join([(n, w, join(graph) if n == GRAPH else v) for n, w, v in fields])


def _first(fields: Fields, number: int) -> Value:
    return next((value for n, _, value in fields if n == number), b"")


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ModelError("the model's graph cannot be read: found a number, expected a message")
    return value


def _other_form(reason: str) -> ModelError:
    return ModelError(
        f"this model has 8-bit input and output and cannot be converted to float32: {reason}; "
        "export one in a checkout of srsdk: `python -m export WEIGHTS -o OUT --boundary float32`"
    )
