"""Check a graph against TensorRT's rules before the build; each finding names a fix.

TensorRT reports most of these faults itself, but later (the tests quote its messages). It accepts
the others silently: UINT8 activations, casts without clip, Turing in an INT8 engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError
from export.graph.layers import PRODUCTS
from export.quantization.saturation import PAIR_LIMIT, pair_sums, saturating_rows

MIN_OPSET, MIN_OPSET_HALF_QDQ, MAX_OPSET = 13, 19, 26
UINT8_NEIGHBORS = ("Cast", "Identity")
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
QUANTIZED = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32)


class LintError(ExportError):
    """TensorRT would reject the graph or compute it incorrectly."""


@dataclass(frozen=True)
class Finding:
    """A rule violation of one node."""

    node: str
    """Node name, or its operator and first output."""
    rule: str
    """What is wrong, and what is expected."""
    fix: str
    """How to fix it."""

    def __str__(self) -> str:
        return f"{self.node}: {self.rule}; {self.fix}"


def check(model: onnx.ModelProto, sms: tuple[int, ...] = ()) -> None:
    """Check a graph against all rules.

    Args:
        model: graph of any precision, with uint8 or float boundary.
        sms: GPU architectures (SM numbers) to build for.

    Raises:
        LintError: names the first three violations and the number of the others.
    """
    _raise_if_any(list(findings(model, sms)))


def findings(model: onnx.ModelProto, sms: tuple[int, ...] = ()) -> Iterator[Finding]:
    """Yield every rule violation."""
    yield from _opset(model)
    yield from _uint8_beside_casts(model.graph)
    yield from _no_antialias(model.graph)
    yield from _quantizers(model.graph)
    yield from _clip_and_round(model.graph)
    yield from _symbolic_sizes(model.graph)
    if 75 in sms and any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        yield Finding(
            "SM 75",
            "with a Turing target, the whole engine computes its INT8 convolutions in float16",
            "leave 75 out of --sm, or export an engine with --precision fp16 for it",
        )


def check_saturation(model: onnx.ModelProto) -> None:
    """Check the weights of a CPU file against the bound of `export.quantization.saturation`.

    Raises:
        LintError: names the convolutions that a processor without VNNI would compute incorrectly.
    """
    _raise_if_any(list(saturating(model)))


def saturating(model: onnx.ModelProto) -> Iterator[Finding]:
    """Yield the convolutions whose int8 weights may saturate in a CPU's kernels."""
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
                f"that sum up to {largest}, expected at most {PAIR_LIMIT}: a processor without "
                "VNNI saturates",
                "quantize the float32 network with python -m export SOURCE --precision int8",
            )


def _raise_if_any(found: list[Finding]) -> None:
    if found:
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise LintError(f"lint: {' | '.join(map(str, found[:3]))}{more}")


def _opset(model: onnx.ModelProto) -> Iterator[Finding]:
    version = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    half = any(t.data_type == TensorProto.FLOAT16 for t in model.graph.initializer)
    quantized = any(node.op_type in QUANTIZERS for node in model.graph.node)
    least = MIN_OPSET_HALF_QDQ if half and quantized else MIN_OPSET
    if not least <= version <= MAX_OPSET:
        yield Finding(
            "model", f"opset {version}, expected {least} to {MAX_OPSET}", "export with opset 20"
        )


def _uint8_beside_casts(graph: onnx.GraphProto) -> Iterator[Finding]:
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    pixels = {name for name, kind in types.items() if kind == TensorProto.UINT8}
    for node in graph.node:
        if node.op_type in QUANTIZERS:
            continue
        touches = pixels & {*node.input, *node.output}
        if touches and node.op_type not in UINT8_NEIGHBORS:
            yield Finding(
                _name(node),
                f"{node.op_type} uses the uint8 tensor {min(touches)!r}, only Cast may",
                "cast to float before the first operation and to uint8 after the last",
            )
        made = helper.get_node_attr_value(node, "to") if node.op_type == "Cast" else None
        if made == TensorProto.UINT8 and node.output[0] not in pixels:
            yield Finding(
                _name(node),
                "a uint8 tensor inside the graph, only its input and output may be uint8",
                "transpose before the cast, and cast last",
            )


def _no_antialias(graph: onnx.GraphProto) -> Iterator[Finding]:
    for node in graph.node:
        if node.op_type == "Resize" and any(a.name == "antialias" and a.i for a in node.attribute):
            yield Finding(
                _name(node),
                "an antialiased Resize, which TensorRT does not support",
                "resize outside the network, or with a fixed convolution",
            )


def _quantizers(graph: onnx.GraphProto) -> Iterator[Finding]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in QUANTIZERS:
            continue
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        kind = zero.data_type if zero is not None else TensorProto.INT8
        source = constants.get(node.input[0])
        if source is not None and source.data_type in QUANTIZED:
            kind = source.data_type
        if kind == TensorProto.INT32:
            yield Finding(
                _name(node),
                "an INT32 bias, which TensorRT cannot dequantize",
                "keep biases in float (as the gpu flavour of --precision int8 does)",
            )
        elif kind == TensorProto.UINT8:
            yield Finding(
                _name(node),
                "quantizes to UINT8, but TensorRT supports signed INT8 only",
                "build from the gpu flavour of --precision int8",
            )
        elif zero is not None and np.any(numpy_helper.to_array(zero)):
            yield Finding(
                _name(node),
                "a zero point other than 0, which TensorRT does not support",
                "calibrate symmetrically (as the gpu flavour of --precision int8 does)",
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
                "truncates, and is undefined outside 0..255",
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
                f"the {wanted} is {shape}: the export fixed a size of its example",
                "compute sizes from the input's shape, with scale factors instead of int(...)",
            )


def _name(node: onnx.NodeProto) -> str:
    return node.name or f"{node.op_type} with output {node.output[0]!r}"


def is_quantized(model: onnx.ModelProto) -> bool:
    """Return whether any convolution reads a dequantized tensor."""
    made = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    return any(n.op_type == "Conv" and made & set(n.input) for n in model.graph.node)


def precision_of(model: onnx.ModelProto) -> str:
    """Return the precision found in the graph: `int8`, `fp16` or `fp32`."""
    if is_quantized(model):
        return "int8"
    halves = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16}
    products = (node for node in model.graph.node if node.op_type in PRODUCTS)
    return "fp16" if any(halves & set(node.input) for node in products) else "fp32"
