"""Find what float16 applies to in a float32 graph: types, readers, and nodes that stay float32."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.graph.layers import PRODUCTS
from export.graph.session import open_session

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
LARGEST = 65504.0
"""Largest finite float16."""
_EXACT = (
    "Abs Clip Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Identity Max "
    "MaxPool Min Neg Pad Relu Reshape ScatterElements ScatterND Slice SpaceToDepth Split Squeeze "
    "Tile Transpose Unsqueeze Where"
)
EXACT = frozenset(_EXACT.split())
"""Operators whose results are values of their inputs: in float16 they round nothing."""
SIZES = ("Shape", "Size")
_ORT_TYPES = {
    "float": FLOAT,
    "float16": HALF,
    "double": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "bool": TensorProto.BOOL,
}


@dataclass(frozen=True)
class Prepared:
    """A float32 graph with named nodes, known types, and the nodes that are never converted."""

    model: onnx.ModelProto
    """The graph; every node has a unique name, and no constant is a node."""
    types: dict[str, int]
    """Element type of every tensor, as in `TensorProto`."""
    constants: dict[str, TensorProto]
    """Initializers by name."""
    nodes: dict[str, onnx.NodeProto]
    """Nodes by name."""
    makers: dict[str, onnx.NodeProto]
    """Node that produces a tensor."""
    readers: dict[str, list[onnx.NodeProto]]
    """Nodes that read a tensor."""
    free: frozenset[str]
    """Names of the nodes that stay float32 in any case: those before the first and behind the last
    product (convolution or matrix product), those that compute sizes, and those that have no
    float16 form."""
    of_picture: frozenset[str]
    """Float tensors that depend on the picture."""

    def halves(self) -> list[onnx.NodeProto]:
        """Return the nodes that float16 applies to."""
        found = []
        for node in self.model.graph.node:
            touches = any(self.types.get(name) == FLOAT for name in (*node.input, *node.output))
            if touches and node.name not in self.free:
                found.append(node)
        return found


def prepared(model: onnx.ModelProto) -> Prepared:
    """Return a copy of a float32 graph, ready for `converted`.

    Raises:
        ExportError: a node holds a subgraph, or ONNX Runtime rejects the graph.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    del graph.value_info[:]
    _fold_constants(graph)
    seen: set[str] = set()
    for index, node in enumerate(graph.node):
        if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute):
            raise ExportError(
                f"fp16: node {node.name or index} ({node.op_type}) holds a subgraph, which cannot "
                "be converted; export with --precision fp32"
            )
        node.name = node.name if node.name and node.name not in seen else f"node{index}"
        seen.add(node.name)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output if name}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            readers[name].append(node)
    types = element_types(copy)
    data = _from_picture(graph)
    versions = {o.domain: o.version for o in copy.opset_import}
    free = _before(graph, set(constants)) | _behind(graph, makers)
    for node in graph.node:
        if not data & set(node.output) or not _has_half_form(node, types, versions):
            free.add(node.name)
    floats = frozenset(name for name in data if types.get(name) == FLOAT)
    nodes = {node.name: node for node in graph.node}
    return Prepared(copy, types, constants, nodes, makers, readers, frozenset(free), floats)


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every tensor: by shape inference, else by ONNX Runtime."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type:
            types[value.name] = value.type.tensor_type.elem_type
    missing = [n for node in graph.node for n in node.output if n and n not in types]
    if missing:
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in missing)
        for port in open_session(watched).get_outputs():
            kind = port.type.removeprefix("tensor(").removesuffix(")")
            types.setdefault(port.name, _ORT_TYPES.get(kind, TensorProto.UNDEFINED))
    return types


def _has_half_form(node: onnx.NodeProto, types: dict[str, int], versions: dict[str, int]) -> bool:
    """Return whether ONNX defines the node for float16 where it now has float32 results."""
    schema = _schema(node, versions)
    if schema is None or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return False
    ports = list(_ports(schema.outputs, len(node.output)))
    return all(
        _allows_half(schema, port)
        for name, port in zip(node.output, ports, strict=True)
        if types.get(name) == FLOAT
    )


def takes_half(node: onnx.NodeProto, index: int, versions: dict[str, int]) -> bool:
    """Return whether an input may be float16; the scales of `Resize` may not."""
    schema = _schema(node, versions)
    if schema is None or (node.op_type == "Resize" and index > 0):
        return False
    return _allows_half(schema, list(_ports(schema.inputs, len(node.input)))[index])


def _schema(node: onnx.NodeProto, versions: dict[str, int]) -> Any:
    try:
        return onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return None


def _ports(formal: Sequence[Any], count: int) -> Iterator[Any]:
    """Yield a formal parameter for each actual one; the last repeats."""
    for index in range(count):
        yield formal[min(index, len(formal) - 1)]


def _allows_half(schema: Any, port: Any) -> bool:
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return "tensor(float16)" in allowed.get(port.type_str, (port.type_str,))


def _fold_constants(graph: onnx.GraphProto) -> None:
    """Turn `Constant` nodes into initializers."""
    nodes = []
    for node in graph.node:
        value = _constant_value(node) if node.op_type == "Constant" else None
        if value is None:
            nodes.append(node)
        else:
            value.name = node.output[0]
            graph.initializer.append(value)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _constant_value(node: onnx.NodeProto) -> TensorProto | None:
    (attribute,) = node.attribute
    copy = TensorProto()
    if attribute.name == "value":
        copy.CopyFrom(attribute.t)
        return copy
    kinds: dict[str, type] = {"value_float": np.float32, "value_floats": np.float32}
    kinds |= {"value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in kinds:
        return None
    value = helper.get_attribute_value(attribute)
    return numpy_helper.from_array(np.asarray(value, kinds[attribute.name]))


def _from_picture(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors that depend on the values of an input, not only on its size."""
    found = {value.name for value in graph.input}
    for node in graph.node:
        if node.op_type not in SIZES and found & set(node.input):
            found.update(name for name in node.output if name)
    return found


def _before(graph: onnx.GraphProto, constants: set[str]) -> set[str]:
    """Return the nodes with no product between them and the input: the picture's own resolution."""
    found = {value.name for value in graph.input}
    nodes = set()
    for node in graph.node:
        read = {name for name in node.input if name and name not in constants}
        if read <= found and node.op_type not in PRODUCTS:
            nodes.add(node.name)
            found.update(node.output)
    return nodes


def _behind(graph: onnx.GraphProto, makers: dict[str, onnx.NodeProto]) -> set[str]:
    """Return the nodes with no product between them and the output: levels of the result."""
    nodes: set[str] = set()
    waiting = [output.name for output in graph.output]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in nodes and node.op_type not in PRODUCTS:
            nodes.add(node.name)
            waiting += node.input
    return nodes
