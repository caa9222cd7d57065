"""What a graph's own operators say of its value range, without a run."""

from __future__ import annotations

from srsdk.adoption.graph import Graph, Node

_PASSING = ("Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
_STEPS = 8
"""Operators before the output, or after the input, that are looked at."""
UNIT, SIGNED, LEVELS = (0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)


def output_range(graph: Graph, output: str) -> tuple[tuple[float, float], str] | None:
    """Return the range of the output, and the operator that says so, or None."""
    makers = {name: node for node in graph.nodes for name in node.outputs}
    name = output
    for _ in range(_STEPS):
        node = makers.get(name)
        if node is None or not node.inputs:
            return None
        if node.op == "Clip":
            found = _limits(graph, node)
            return None if found is None else (found, "Clip")
        if node.op in ("Tanh", "Sigmoid"):
            return (SIGNED if node.op == "Tanh" else UNIT), node.op
        if node.op not in _PASSING:
            return None
        name = node.inputs[0]
    return None


def input_range(graph: Graph, name: str) -> tuple[tuple[float, float], str] | None:
    """Return the range of the input if the first operators divide by 255, or None."""
    for node in graph.nodes[: _STEPS * 4]:
        if name not in node.inputs or not node.outputs:
            continue
        constant = next((graph.constants[each] for each in node.inputs if each in graph.constants),
                        ())  # fmt: skip
        if len(constant) == 1 and (
            (node.op == "Div" and abs(constant[0] - 255) < 2)
            or (node.op == "Mul" and abs(constant[0] * 255 - 1) < 0.01)
            or (node.op in ("Div", "Sub") and constant[0] in (127.5, 128.0))
        ):
            return LEVELS, f"{node.op} by {constant[0]:g}"
        if node.op not in _PASSING:
            return None
        name = node.outputs[0]
    return None


def _limits(graph: Graph, node: Node) -> tuple[float, float] | None:
    low, high = node.number("min"), node.number("max")
    if len(node.inputs) > 2:
        limits = [graph.constants.get(name, ()) for name in node.inputs[1:3]]
        if all(len(limit) == 1 for limit in limits):
            low, high = limits[0][0], limits[1][0]
    known = (UNIT, SIGNED, LEVELS)
    return next((pair for pair in known if pair == (low, high)), None)
