"""Rules that a graph must keep before TensorRT is asked to build it, each with what mends it.

TensorRT finds most of the same faults later and in its own words (they stand in the tests). The
others it would take in silence: UINT8 activations, casts without clip, Turing beside INT8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.layers import conv_layers
from export.onnx_file import ExportError
from export.saturation import PAIR_LIMIT, pair_sums, saturating_rows

MIN_OPSET, MIN_OPSET_HALF_QDQ, MAX_OPSET = 13, 19, 26
UINT8_NEIGHBOURS = ("Cast", "Identity")
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
QUANTISED = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32)


class LintError(ExportError):
    """A graph that TensorRT would refuse, or compute wrongly."""


@dataclass(frozen=True)
class Finding:
    """One rule that one node breaks."""

    node: str
    """Its name, or its kind and first output."""
    rule: str
    """What is wrong, and what it should be."""
    mend: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.node}: {self.rule}; {self.mend}"


def check(model: onnx.ModelProto, sms: tuple[int, ...] = ()) -> None:
    """Hold a graph against all rules.

    Args:
        model: with uint8 or float boundary, any precision.
        sms: GPU generations that it is to be built for.

    Raises:
        LintError: names every node that breaks a rule.
    """
    _refuse(list(findings(model, sms)))


def findings(model: onnx.ModelProto, sms: tuple[int, ...] = ()) -> Iterator[Finding]:
    """Yield every broken rule."""
    yield from _opset(model)
    yield from _uint8_beside_casts(model.graph)
    yield from _no_antialias(model.graph)
    yield from _quantisers(model.graph)
    yield from _clip_and_round(model.graph)
    yield from _symbolic_sizes(model.graph)
    if 75 in sms and any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        yield Finding(
            "SM 75",
            "one Turing target turns every INT8 convolution of the whole engine into float16",
            "leave 75 out of --sm, or give it an engine of --precision fp16",
        )


def check_saturation(model: onnx.ModelProto) -> None:
    """Hold the weights of a file for CPUs against `export.saturation`'s bound.

    Raises:
        LintError: names every convolution that a processor without VNNI would compute wrongly.
    """
    _refuse(list(saturating(model)))


def saturating(model: onnx.ModelProto) -> Iterator[Finding]:
    """Yield the convolutions whose int8 weights a CPU's kernels may saturate."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        source = makers.get(node.input[1]) if node.op_type == "Conv" else None
        stored = constants.get(source.input[0]) if source is not None else None
        if stored is None or stored.data_type != TensorProto.INT8:
            continue
        codes = numpy_helper.to_array(stored)
        if len(rows := saturating_rows(codes)):
            largest = int(pair_sums(codes).max())
            yield Finding(
                _name(node),
                f"{len(rows)} of {len(codes)} output channels have neighboring weights of one sign "
                f"that sum up to {largest}, expected {PAIR_LIMIT} at most: a processor without "
                "VNNI saturates",
                "quantize the float32 network with python -m export SOURCE --precision int8",
            )


def _refuse(found: list[Finding]) -> None:
    if found:
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise LintError(f"lint: {' | '.join(map(str, found[:3]))}{more}")


def _opset(model: onnx.ModelProto) -> Iterator[Finding]:
    version = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    half = any(t.data_type == TensorProto.FLOAT16 for t in model.graph.initializer)
    quantised = any(node.op_type in QUANTISERS for node in model.graph.node)
    least = MIN_OPSET_HALF_QDQ if half and quantised else MIN_OPSET
    if not least <= version <= MAX_OPSET:
        yield Finding(
            "model", f"opset {version}, expected {least} to {MAX_OPSET}", "export with opset 20"
        )


def _uint8_beside_casts(graph: onnx.GraphProto) -> Iterator[Finding]:
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    pixels = {name for name, kind in types.items() if kind == TensorProto.UINT8}
    for node in graph.node:
        if node.op_type in QUANTISERS:
            continue
        touches = pixels & {*node.input, *node.output}
        if touches and node.op_type not in UINT8_NEIGHBOURS:
            yield Finding(
                _name(node),
                f"{node.op_type} touches the uint8 tensor {min(touches)!r}, only Cast may",
                "cast to float before the first operation and to uint8 after the last",
            )
        made = helper.get_node_attr_value(node, "to") if node.op_type == "Cast" else None
        if made == TensorProto.UINT8 and node.output[0] not in pixels:
            yield Finding(
                _name(node),
                "a uint8 tensor inside of the graph, only inputs and outputs may be",
                "transpose before the cast, and cast last",
            )


def _no_antialias(graph: onnx.GraphProto) -> Iterator[Finding]:
    for node in graph.node:
        if node.op_type == "Resize" and any(a.name == "antialias" and a.i for a in node.attribute):
            yield Finding(
                _name(node),
                "an antialiased Resize, which TensorRT has not",
                "resize outside of the network, or by a fixed convolution",
            )


def _quantisers(graph: onnx.GraphProto) -> Iterator[Finding]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in QUANTISERS:
            continue
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        kind = zero.data_type if zero is not None else TensorProto.INT8
        source = constants.get(node.input[0])
        if source is not None and source.data_type in QUANTISED:
            kind = source.data_type
        if kind == TensorProto.INT32:
            yield Finding(
                _name(node),
                "a bias in INT32, which TensorRT does not dequantise",
                "leave biases in float (the gpu flavour of --precision int8 does)",
            )
        elif kind == TensorProto.UINT8:
            yield Finding(
                _name(node),
                "quantises to UINT8, TensorRT takes signed INT8 only",
                "build from the gpu flavour of --precision int8",
            )
        elif zero is not None and np.any(numpy_helper.to_array(zero)):
            yield Finding(
                _name(node),
                "a zero point other than 0, which TensorRT does not take",
                "calibrate symmetrically (the gpu flavour of --precision int8 does)",
            )


def _clip_and_round(graph: onnx.GraphProto) -> Iterator[Finding]:
    producer = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type != "Cast" or helper.get_node_attr_value(node, "to") != TensorProto.UINT8:
            continue
        before = set()
        walker: onnx.NodeProto | None = producer.get(node.input[0])
        while walker is not None and walker.op_type in ("Transpose", "Round", "Clip", "Identity"):
            before.add(walker.op_type)
            walker = producer.get(walker.input[0])
        missing = {"Clip", "Round"} - before
        if missing:
            yield Finding(
                _name(node),
                f"cast to uint8 without {' and '.join(sorted(missing))} before it: the cast "
                "truncates, and is undefined outside of 0..255",
                "clip to 0..255 and round first",
            )


def _symbolic_sizes(graph: onnx.GraphProto) -> Iterator[Finding]:
    for value, wanted in ((graph.input[0], "input"), (graph.output[0], "output")):
        dims = value.type.tensor_type.shape.dim
        fixed_input = all(d.dim_value for d in graph.input[0].type.tensor_type.shape.dim)
        symbolic = sum(1 for d in dims if not d.dim_value)
        if not fixed_input and symbolic < 2:
            shape = [d.dim_param or d.dim_value for d in dims]
            yield Finding(
                value.name,
                f"the {wanted} is {shape}: a size of the example was baked in",
                "compute sizes from the input's shape, by scale factors instead of int(...)",
            )


def _name(node: onnx.NodeProto) -> str:
    return node.name or f"{node.op_type} that makes {node.output[0]!r}"


def is_quantised(model: onnx.ModelProto) -> bool:
    """Say whether any convolution reads a dequantised tensor."""
    made = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    return any(n.op_type == "Conv" and made & set(n.input) for n in model.graph.node)


def precision_of(model: onnx.ModelProto) -> str:
    """Return what the graph is, whatever it is called: `int8`, `fp16` or `fp32`."""
    if is_quantised(model):
        return "int8"
    types = {t.name: t.data_type for t in model.graph.initializer}
    halves = [types[layer.weight] == TensorProto.FLOAT16 for layer in conv_layers(model)]
    return "fp16" if any(halves) else "fp32"
