"""Graph lint: one known-bad graph for each rule, and TensorRT's own error for it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.targets import lint
from export.targets.tensorrt import EngineBuildError, _Job, open_library
from export.targets.tensorrt import _build as build_unchecked

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="needs tensorrt-rtx"
)

HEAD = [helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT, name="head")]
TAIL = [
    helper.make_node("Clip", ["y", "low", "high"], ["clipped"], name="clip"),
    helper.make_node("Round", ["clipped"], ["rounded"], name="round"),
    helper.make_node("Cast", ["rounded"], ["upscaled"], to=TensorProto.UINT8, name="tail"),
]
CONSTANTS: dict[str, Any] = {"low": np.float32(0), "high": np.float32(255)}


def graph(
    nodes: list[Any],
    constants: dict[str, Any] | None = None,
    *,
    shapes: tuple[list[Any], list[Any]] = (["n", "h", "w", 3], ["n", "h", "w", 3]),
    opset: int = 20,
) -> onnx.ModelProto:
    """Make a model from uint8 `image` to uint8 `upscaled`."""
    values = {**CONSTANTS, **(constants or {})}
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shapes[0])],
        [helper.make_tensor_value_info("upscaled", TensorProto.UINT8, shapes[1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def good() -> onnx.ModelProto:
    """A model without violations."""
    return graph([*HEAD, helper.make_node("Relu", ["x"], ["y"], name="relu"), *TAIL])


def transposed_pixels() -> onnx.ModelProto:
    """uint8 is transposed before the cast."""
    first = helper.make_node("Transpose", ["image"], ["t"], perm=[0, 2, 1, 3], name="early")
    head = helper.make_node("Cast", ["t"], ["y"], to=TensorProto.FLOAT, name="head")
    return graph([first, head, *TAIL])


def pixels_inside() -> onnx.ModelProto:
    """uint8 is transposed after the cast."""
    cast = helper.make_node("Cast", ["rounded"], ["u"], to=TensorProto.UINT8, name="tail")
    last = helper.make_node("Transpose", ["u"], ["upscaled"], perm=[0, 2, 1, 3], name="late")
    relu = helper.make_node("Relu", ["x"], ["y"], name="relu")
    return graph([*HEAD, relu, *TAIL[:2], cast, last])


def antialiased() -> onnx.ModelProto:
    """Resize with a filter."""
    resize = helper.make_node(
        "Resize", ["x", "", "factors"], ["y"], mode="linear", antialias=1, name="resize"
    )
    return graph([*HEAD, resize, *TAIL], {"factors": np.array([1, 0.5, 0.5, 1], np.float32)})


def dequantized_bias() -> onnx.ModelProto:
    """INT32 is dequantized."""
    bias = helper.make_node("DequantizeLinear", ["b", "s"], ["bias"], name="bias")
    add = helper.make_node("Add", ["x", "bias"], ["y"], name="add")
    constants = {"b": np.array([1, 2, 3], np.int32), "s": np.float32(0.1)}
    return graph([*HEAD, bias, add, *TAIL], constants)


def unsigned_activations() -> onnx.ModelProto:
    """Activations are UINT8."""
    return quantized(np.uint8(0))


def shifted_activations() -> onnx.ModelProto:
    """The zero point is not 0."""
    return quantized(np.int8(3))


def quantized(zero: Any) -> onnx.ModelProto:
    """A Q/DQ pair with the given zero point."""
    pair = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="dequantize"),
    ]
    return graph([*HEAD, *pair, *TAIL], {"s": np.float32(2), "z": zero})


def unclipped() -> onnx.ModelProto:
    """The result is rounded but not clipped."""
    nodes = [
        *HEAD,
        helper.make_node("Round", ["x"], ["rounded"], name="round"),
        TAIL[2],
    ]
    return graph(nodes)


def baked_size() -> onnx.ModelProto:
    """The output has the fixed size of the example."""
    relu = helper.make_node("Relu", ["x"], ["y"], name="relu")
    shapes: tuple[list[Any], list[Any]] = (["n", "h", "w", 3], ["n", 104, 136, 3])
    return graph([*HEAD, relu, *TAIL], shapes=shapes)


def old_opset() -> onnx.ModelProto:
    """The opset is older than 13."""
    return graph([*HEAD, helper.make_node("Relu", ["x"], ["y"], name="relu"), *TAIL], opset=11)


BAD: list[tuple[Callable[[], onnx.ModelProto], str, str]] = [
    (transposed_pixels, "early", "Transpose uses the uint8 tensor 'image', only Cast may"),
    (pixels_inside, "tail", "a uint8 tensor inside the graph"),
    (antialiased, "resize", "an antialiased Resize, which TensorRT does not support"),
    (dequantized_bias, "bias", "an INT32 bias, which TensorRT cannot dequantize"),
    (
        unsigned_activations,
        "quantize",
        "quantizes to UINT8, but TensorRT supports signed INT8",
    ),
    (shifted_activations, "quantize", "a zero point other than 0, which TensorRT does not support"),
    (unclipped, "tail", "cast to uint8 without Clip before it"),
    (baked_size, "upscaled", "the export fixed a size of its example"),
    (old_opset, "model", "opset 11, expected 13 to 26"),
]


def test_a_good_graph_passes() -> None:
    """A valid graph gives no findings."""
    lint.check(good(), sms=(75, 86))


@pytest.mark.parametrize(("make", "node", "rule"), BAD)
def test_each_rule(make: Callable[[], onnx.ModelProto], node: str, rule: str) -> None:
    """The error names the node, the rule and the fix."""
    (finding, *_) = lint.findings(make())
    assert finding.node == node
    assert rule in finding.rule
    with pytest.raises(lint.LintError, match=f"lint: {node}: ") as error:
        lint.check(make())
    assert finding.fix in str(error.value)


def test_half_scales_need_a_newer_opset() -> None:
    """float16 scales of Q/DQ exist since opset 19."""
    model = quantized(np.int8(0))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.float16), "half"))
    lint.check(model)
    model.opset_import[0].version = 18
    with pytest.raises(lint.LintError, match="opset 18, expected 19 to 26"):
        lint.check(model)


def test_turing_in_an_int8_engine() -> None:
    """SM 75 would silently disable INT8 on all other GPUs."""
    lint.check(quantized(np.int8(0)), sms=(86, 89))
    with pytest.raises(lint.LintError, match="leave 75 out of --sm"):
        lint.check(quantized(np.int8(0)), sms=(75, 86))


@needs_rtx
@pytest.mark.parametrize(
    ("make", "theirs"),
    [
        (transposed_pixels, "first input has type UInt8 but must have type"),
        (pixels_inside, "UINT8"),
        (antialiased, "Antialiasing is not supported"),
        (dequantized_bias, "input has type Int32 but must have type"),
        (shifted_activations, "[Nn]on-zero zero point is not supported"),
    ],
)
def test_tensorrt_agrees(make: Callable[[], onnx.ModelProto], theirs: str) -> None:
    """The rules are TensorRT's: without the lint, it rejects these graphs with these messages.

    UINT8 with a zero point of 0 is missing: the parser of 1.7.1 accepts it, its manual does not.
    """
    library = open_library("rtx")
    job = _Job(library, make(), "test", ((1, 32, 32),), (86,), SilentBar(), NeverSet())  # type: ignore[arg-type]
    with pytest.raises(EngineBuildError, match=theirs):
        build_unchecked(job)


class SilentBar:
    """Replaces tqdm."""

    total = 0

    def update(self) -> None:
        """Do nothing."""


class NeverSet:
    """Replaces the event that cancels a build."""

    def is_set(self) -> bool:
        """Return False."""
        return False


def test_precision_is_read_from_the_graph() -> None:
    """Float16 weights or a dequantized operand decide the precision, not a name."""
    weight = np.ones((3, 3, 1, 1), np.float32)
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    plain = graph([*HEAD, conv, *TAIL], {"w": weight})
    assert lint.precision_of(plain) == "fp32"
    assert (
        lint.precision_of(graph([*HEAD, conv, *TAIL], {"w": weight.astype(np.float16)})) == "fp16"
    )
    pair = quantized(np.int8(0)).graph.node[1:3]
    pair[1].output[0] = "x8"
    conv8 = helper.make_node("Conv", ["x8", "w"], ["y"], name="conv")
    constants = {"w": weight, "s": np.float32(2), "z": np.int8(0)}
    assert lint.precision_of(graph([*HEAD, *pair, conv8, *TAIL], constants)) == "int8"
