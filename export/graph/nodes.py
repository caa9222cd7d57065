"""Helpers for editing ONNX graphs: find producers and readers of tensors, add and remove nodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from export.graph.rewrite import sort


def maker(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """Return the node that produces a tensor; None: it is an input or a constant."""
    return next((node for node in graph.node if name in node.output), None)


def readers(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """Return the nodes that read a tensor."""
    return [node for node in graph.node if name in node.input]


def only(graph: onnx.GraphProto, name: str, kind: str) -> onnx.NodeProto | None:
    """Return the only reader of a tensor if it has the given operator type, else None."""
    found = readers(graph, name)
    return found[0] if len(found) == 1 and found[0].op_type == kind else None


def redirect(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Make all readers of one tensor read another."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def value(graph: onnx.GraphProto, name: str) -> float:
    """Return a one-element constant; NaN: the tensor is not one."""
    for tensor in graph.initializer:
        if tensor.name == name and math.prod(tensor.dims) == 1:
            return float(numpy_helper.to_array(tensor).item())
    return math.nan


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return an attribute's value, or `default` if the node does not have it."""
    return helper.get_node_attr_value(node, name) if _has(node, name) else default


def constant(graph: onnx.GraphProto, name: str, values: npt.ArrayLike) -> str:
    """Add a constant unless it exists; return its name."""
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def add(
    graph: onnx.GraphProto,
    kind: str,
    name: str,
    inputs: list[str],
    outputs: list[str],
    **attributes: Any,
) -> None:
    """Append a node; `tidy` sorts it into place."""
    graph.node.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))


def tidy(graph: onnx.GraphProto) -> None:
    """Remove unused nodes and constants, and sort the nodes topologically."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    needed: set[int] = set()
    waiting = [output.name for output in graph.output]
    while waiting:
        index = makers.get(waiting.pop())
        if index is not None and index not in needed:
            needed.add(index)
            waiting += graph.node[index].input
    for index in reversed(range(len(graph.node))):
        if index not in needed:
            del graph.node[index]
    sort(graph)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _has(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.name == name for attribute in node.attribute)
