"""Compute a float16 graph as a GPU does: sums in float32, results stored in float16.

ONNX Runtime has no float16 kernels for CPUs: it computes float16 graphs in float32 throughout and
neither rounds nor overflows between layers. The graphs made here are float32 with two casts behind
every result that float16 would hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graph.session import inputs_for, open_session
from export.half.analysis import EXACT, FLOAT, HALF, LARGEST, Prepared, element_types
from export.protocol import Batch

SWITCHES = "half.switches"


def stored(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float16 graph in float32, with every result rounded that is stored in float16.

    Results beyond float16's range become infinite.
    """
    types = element_types(model)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        halves = [name for name in node.output if types.get(name) == HALF]
        _widen(node)
        if node.op_type in EXACT or not halves:
            nodes.append(node)
            continue
        for index, name in enumerate(node.output):
            if name in halves:
                node.output[index] = f"{name}.exact"
        nodes.append(node)
        for name in halves:
            nodes += _rounding(f"{name}.exact", name)
    for tensor in graph.initializer:
        if tensor.data_type == HALF:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return result


def peaks(ready: Prepared, pictures: Sequence[Batch]) -> dict[str, float]:
    """Return the largest absolute value of each result on the pictures, by tensor name.

    Args:
        ready: a float32 graph.
        pictures: (N, H, W, C) uint8 each.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(ready.model)
    graph = watched.graph
    names = [
        name
        for node in ready.model.graph.node
        for name in node.output
        if name in ready.of_picture and node.op_type not in EXACT
    ]
    del graph.output[:]
    for name in names:
        graph.node.append(helper.make_node("Abs", [name], [f"{name}.abs"]))
        largest = helper.make_node("ReduceMax", [f"{name}.abs"], [f"{name}.peak"], keepdims=0)
        graph.node.append(largest)
        graph.output.append(onnx.ValueInfoProto(name=f"{name}.peak"))
    session = open_session(watched)
    found = [session.run(None, inputs_for(session, picture)) for picture in pictures]
    return dict(zip(names, np.max(np.asarray(found, np.float64), axis=0).tolist(), strict=True))


@dataclass(frozen=True)
class Unit:
    """A tensor that float16 rounds: a result of a node, or a constant."""

    name: str
    """Tensor name."""
    readers: tuple[str, ...]
    """Names of the nodes that read its rounded version."""


def units(ready: Prepared) -> list[Unit]:
    """Return every tensor that float16 rounds, in graph order; constants before their readers."""
    found: dict[str, Unit] = {}
    sources = [value.name for value in ready.model.graph.input if value.name in ready.of_picture]
    for name in sources:
        found |= _unit(ready, name, only_halves=True)
    for node in ready.model.graph.node:
        is_free = node.name in ready.free
        for name in node.input if not is_free else ():
            if ready.types.get(name) == FLOAT and name not in found and _rounds(ready, name):
                found |= _unit(ready, name, only_halves=True)
        for name in node.output:
            if name in ready.of_picture and (is_free or node.op_type not in EXACT):
                found |= _unit(ready, name, only_halves=is_free)
    return list(found.values())


class Switched:
    """A float32 graph in which the rounding of each unit can be switched on."""

    def __init__(self, ready: Prepared, every: Sequence[Unit], pictures: Sequence[Batch]) -> None:
        self._session = open_session(_switched(ready, every))
        self._feeds = [inputs_for(self._session, picture) for picture in pictures]
        self._count = len(every)
        self.exact = [self._run(feed, ()) for feed in self._feeds]
        """Results without rounding, levels of 255."""

    def error(self, on: Sequence[int]) -> float:
        """Return the mean squared error, in levels, with the given units rounded.

        Infinite if a result is not finite.
        """
        found = []
        for feed, exact in zip(self._feeds, self.exact, strict=True):
            difference = self._run(feed, on).astype(np.float64) - exact
            found.append(float(np.mean(difference**2)) if np.isfinite(difference).all() else np.inf)
        return float(np.mean(found))

    def _run(self, feed: dict[str, Any], on: Sequence[int]) -> npt.NDArray[np.float32]:
        switches = np.zeros(self._count, bool)
        switches[list(on)] = True
        result: npt.NDArray[np.float32]
        (result,) = self._session.run(None, {**feed, SWITCHES: switches})
        return result


def _rounds(ready: Prepared, name: str) -> bool:
    """Return whether a constant changes in float16."""
    if name not in ready.constants:
        return False
    values = numpy_helper.to_array(ready.constants[name])
    return not np.array_equal(_half(values), values)


def _unit(ready: Prepared, name: str, *, only_halves: bool) -> dict[str, Unit]:
    readers = [
        node.name
        for node in ready.readers.get(name, ())
        if not only_halves or node.name not in ready.free
    ]
    return {name: Unit(name, tuple(readers))} if readers else {}


def _switched(ready: Prepared, every: Sequence[Unit]) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(ready.model)
    graph = result.graph
    before: list[onnx.NodeProto] = []
    after: dict[str, list[onnx.NodeProto]] = {}
    readers: dict[str, dict[str, str]] = {}
    for index, unit in enumerate(every):
        nodes = _switch(ready, graph, unit.name, index)
        maker = ready.makers.get(unit.name)
        if maker is None:
            before += nodes
        else:
            after.setdefault(maker.name, []).extend(nodes)
        for reader in unit.readers:
            readers.setdefault(reader, {})[unit.name] = f"{unit.name}.switched"
    nodes = before
    for node in graph.node:
        renamed = readers.get(node.name, {})
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
        nodes += [node, *after.get(node.name, ())]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    tap, factor = _before_rounding(ready)
    kept.append(helper.make_node("Mul", [tap, "half.factor"], ["half.levels"]))
    graph.initializer.append(numpy_helper.from_array(np.float32(factor), "half.factor"))
    del graph.node[:], graph.output[:]
    graph.node.extend(kept)
    graph.input.append(helper.make_tensor_value_info(SWITCHES, TensorProto.BOOL, [len(every)]))
    graph.output.append(onnx.ValueInfoProto(name="half.levels"))
    return result


def _switch(ready: Prepared, graph: onnx.GraphProto, name: str, index: int) -> list[onnx.NodeProto]:
    """Return nodes that make `NAME.switched`: the tensor, rounded if its switch is on."""
    place, switch, rounded = f"{name}.place", f"{name}.switch", f"{name}.rounded"
    graph.initializer.append(numpy_helper.from_array(np.int64(index), place))
    nodes = [helper.make_node("Gather", [SWITCHES, place], [switch])]
    if name in ready.constants:
        values = _half(numpy_helper.to_array(ready.constants[name]))
        graph.initializer.append(numpy_helper.from_array(values, rounded))
    else:
        nodes += _rounding(name, rounded)
    return [*nodes, helper.make_node("Where", [switch, rounded, name], [f"{name}.switched"])]


def _half(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    rounded: npt.NDArray[np.float32] = np.clip(values, -LARGEST, LARGEST).astype(np.float16)
    return rounded.astype(np.float32)


def _before_rounding(ready: Prepared) -> tuple[str, float]:
    """Return the tensor behind which levels are rounded to integers, and its factor to levels."""
    name = ready.model.graph.output[0].name
    walker = ready.makers.get(name)
    while walker is not None and walker.op_type in ("Cast", "Transpose", "Identity"):
        name = walker.input[0]
        walker = ready.makers.get(name)
    if walker is not None and walker.op_type == "Round":
        return walker.input[0], 1.0
    return ready.model.graph.output[0].name, 255.0


def _rounding(source: str, result: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", [source], [f"{result}.16"], to=HALF),
        helper.make_node("Cast", [f"{result}.16"], [result], to=FLOAT),
    ]


def _widen(node: onnx.NodeProto) -> None:
    """Make a node's attributes that name or hold float16 name or hold float32."""
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == HALF:
            attribute.i = FLOAT
        elif attribute.t.data_type == HALF:
            wide = numpy_helper.to_array(attribute.t).astype(np.float32)
            attribute.t.CopyFrom(numpy_helper.from_array(wide, attribute.t.name))
