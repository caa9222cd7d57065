"""Convert a float32 graph to float16, except for nodes that stay in float32 between casts.

The result is strongly typed, as TensorRT requires: every node reads and writes one float type, and
only `Cast` nodes change it. ONNX Runtime's converter knows neither the uint8 boundary of our graphs
nor which float values are sizes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from export.half.analysis import FLOAT, HALF, LARGEST, Prepared, takes_half


def converted(ready: Prepared, kept: Container[str]) -> onnx.ModelProto:
    """Return the graph in float16, with the `kept` nodes in float32; its boundary does not change.

    Constants beyond float16's range are clamped to it.

    Args:
        ready: the float32 graph.
        kept: names of nodes that stay in float32, besides `ready.free`.
    """
    result = onnx.ModelProto()
    result.CopyFrom(ready.model)
    graph = result.graph
    halved = {node.name for node in ready.halves() if node.name not in kept}
    wanted = _wanted(ready, halved)
    halves = {n for name in halved for n in _float_outputs(ready, name)}
    nodes: list[onnx.NodeProto] = []
    casts: set[str] = set()
    for node in graph.node:
        for index, name in enumerate(node.input):
            kind = wanted.get((node.name, index))
            if kind is None or name in ready.constants or (name in halves) == (kind == HALF):
                continue
            node.input[index] = _twin(name, kind)
            if node.input[index] not in casts:
                casts.add(node.input[index])
                nodes.append(_cast(name, node.input[index], kind))
        if node.name in halved:
            _retype(node)
        nodes.append(node)
    nodes += _restored_outputs(graph, halves, nodes)
    _store_constants(graph, wanted, nodes)
    del graph.node[:]
    graph.node.extend(nodes)
    return result


def _wanted(ready: Prepared, halved: set[str]) -> dict[tuple[str, int], int]:
    """Return the type that each float input of a node must have, by node name and input index."""
    versions = {o.domain: o.version for o in ready.model.opset_import}
    found = {}
    for node in ready.model.graph.node:
        for index, name in enumerate(node.input):
            if ready.types.get(name) == FLOAT:
                takes = node.name in halved and takes_half(node, index, versions)
                found[node.name, index] = HALF if takes else FLOAT
    return found


def _float_outputs(ready: Prepared, name: str) -> list[str]:
    return [n for n in ready.nodes[name].output if ready.types.get(n) == FLOAT]


def _twin(name: str, kind: int) -> str:
    """Name the version of a tensor in the other float type."""
    return f"{name}.{'half' if kind == HALF else 'float'}"


def _cast(source: str, result: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"{result}.cast", to=kind)


def _retype(node: onnx.NodeProto) -> None:
    """Make a node's attributes that name or hold float32 name or hold float16."""
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == FLOAT:
            attribute.i = HALF
        elif attribute.type == AttributeProto.TENSOR and attribute.t.data_type == FLOAT:
            attribute.t.CopyFrom(_as_half(attribute.t, attribute.t.name))


def _restored_outputs(
    graph: onnx.GraphProto, halves: set[str], nodes: list[onnx.NodeProto]
) -> list[onnx.NodeProto]:
    """Rename float16 tensors that are outputs of the graph; return casts to the outputs."""
    added = []
    for name in (output.name for output in graph.output if output.name in halves):
        inside = _twin(name, HALF)
        for node in nodes:
            for names in (node.input, node.output):
                for index, used in enumerate(names):
                    if used == name:
                        names[index] = inside
        added.append(_cast(inside, name, FLOAT))
    return added


def _store_constants(
    graph: onnx.GraphProto, wanted: dict[tuple[str, int], int], nodes: list[onnx.NodeProto]
) -> None:
    """Store each constant in the types in which it is read; drop the others."""
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type == FLOAT}
    read: dict[str, set[int]] = defaultdict(set)
    for node in nodes:
        for index, name in enumerate(node.input):
            read[name].add(wanted.get((node.name, index), FLOAT))
    both = {name for name in floats if read[name] == {FLOAT, HALF}}
    for node in nodes:
        for index, name in enumerate(node.input):
            if name in both and wanted.get((node.name, index)) == HALF:
                node.input[index] = _twin(name, HALF)
    stored = []
    for tensor in graph.initializer:
        if tensor.name in floats and read[tensor.name] == {HALF}:
            stored.append(_as_half(tensor, tensor.name))
        elif read[tensor.name]:
            stored.append(tensor)
        if tensor.name in both:
            stored.append(_as_half(tensor, _twin(tensor.name, HALF)))
    del graph.initializer[:]
    graph.initializer.extend(stored)


def _as_half(tensor: TensorProto, name: str) -> TensorProto:
    values = np.clip(numpy_helper.to_array(tensor), -LARGEST, LARGEST)
    return numpy_helper.from_array(values.astype(np.float16), name)
