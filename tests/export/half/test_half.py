"""Float16 graphs with exceptions: parity, strong types, few nodes in float32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from export.errors import ExportError, GateError
from export.evaluation.parity import LIMITS
from export.evaluation.quality import Evaluator
from export.graph.session import open_session, session_run
from export.half.analysis import element_types, prepared
from export.half.choice import HalfGraph, half_graph
from export.half.conversion import converted
from export.half.rounding import stored
from export.half.search import search
from export.sources.module import TorchSource, torch_source
from tests.export.half.nets import Around, Attention, Large, Variance


def source_of(part: nn.Module) -> TorchSource:
    """A source around a part."""
    return torch_source(Around(part), name="toy", family="foreign", scale=1, sha256="0" * 64)


def made_from(part: nn.Module) -> HalfGraph:
    """The float16 graph of a network around a part."""
    torch.manual_seed(0)
    source = source_of(part)
    return half_graph(source, source.graph("fp32", "uint8"), "uint8", Evaluator.of(source, ()))


@pytest.fixture(scope="module")
def large() -> tuple[TorchSource, onnx.ModelProto]:
    """A source with values of 1e5 inside, and its float32 graph."""
    torch.manual_seed(0)
    source = source_of(Large())
    return source, source.graph("fp32", "uint8")


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        (Large(), ["Conv", "Relu", "Conv"]),
        (Variance(), ["Add", "Sqrt"]),
        (Attention(30.0), ["MatMul", "Div"]),
    ],
    ids=["large values", "variance", "logits"],
)
def test_only_what_float16_cannot_hold_stays(part: nn.Module, kept: list[str]) -> None:
    """The nodes around a tensor that overflows or vanishes stay in float32, and no others."""
    made = made_from(part)
    assert list(made.exceptions.nodes.values()) == kept
    assert made.parity.psnr_db is None or made.parity.psnr_db > LIMITS["fp16"].psnr_db
    assert made.because
    onnx.checker.check_model(made.model, full_check=True)
    _assert_strongly_typed(made.model)


def test_nothing_stays_where_nothing_overflows() -> None:
    """A network that float16 holds gets the source's own conversion, bit for bit."""
    part = Attention(1.0)
    torch.manual_seed(0)
    source = source_of(part)
    full, plain = source.graph("fp32", "uint8"), source.graph("fp16", "uint8")
    made = half_graph(source, full, "uint8", Evaluator.of(source, ()))
    assert made.model.SerializeToString() == plain.SerializeToString()
    assert (made.exceptions.nodes, made.because) == ({}, "")


def test_the_simulation_rounds_and_overflows() -> None:
    """`stored` gives what numpy's float16 gives after each node; ONNX Runtime alone does not."""
    half = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["a", "k"], ["b"]),
        helper.make_node("Mul", ["b", "l"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    constants = {"k": np.float16(1000), "l": np.float16(1e-3)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [half],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    x = np.array([0.1, 3.3, 60.0, 70.0, -100.0], np.float32)
    with np.errstate(over="ignore"):
        wanted = (x.astype(np.float16) * constants["k"]) * constants["l"]
    (got,) = open_session(stored(model)).run(None, {"x": x})
    np.testing.assert_array_equal(got, wanted.astype(np.float32))
    assert np.isinf(got[-2:]).all()


def test_the_boundary_and_sizes_stay_float32(
    large: tuple[TorchSource, onnx.ModelProto],
) -> None:
    """What lies before the first and behind the last product keeps the picture's precision."""
    ready = prepared(large[1])
    model = converted(ready, ())
    halves = {t.name for t in model.graph.initializer if t.data_type == TensorProto.FLOAT16}
    assert {"network.head.weight", "network.tail.weight"} <= halves
    types = element_types(model)
    behind = [n for n in model.graph.node if n.op_type in ("Div", "Add", "Clip", "Round")]
    assert behind
    assert all(types[name] == TensorProto.FLOAT for node in behind for name in node.output)


def test_a_gate_that_nothing_passes(large: tuple[TorchSource, onnx.ModelProto]) -> None:
    """The error counts the nodes and names the fix."""
    ready = prepared(large[1])
    picture = np.zeros((1, 16, 16, 3), np.uint8)
    with pytest.raises(GateError, match=r"^never; \d+ of 7 nodes in float32 .* --precision fp32$"):
        search(ready, [picture], lambda _: "never", set(), 0.0)


def test_subgraphs_are_refused() -> None:
    """A graph with control flow is one sentence with the node and the fix."""
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])],
        "b",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["c"], ["y"], name="choose", then_branch=branch,
                            else_branch=branch)  # fmt: skip
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])]
    inputs.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])]
    model = helper.make_model(helper.make_graph([node], "g", inputs, outputs))
    with pytest.raises(ExportError, match=r"node choose \(If\) holds a subgraph.*--precision fp32"):
        prepared(model)


def test_exceptions_run_in_onnx_runtime(large: tuple[TorchSource, onnx.ModelProto]) -> None:
    """The file with exceptions gives the float32 network's picture within the gate's levels."""
    source, full = large
    evaluator = Evaluator.of(source, ())
    made = half_graph(source, full, "uint8", evaluator)
    picture = evaluator.pictures[0]
    difference = session_run(made.model)(picture).astype(int) - source.reference(picture)
    assert np.abs(difference).max() <= LIMITS["fp16"].max_lsb


def _assert_strongly_typed(model: onnx.ModelProto) -> None:
    """No node but `Cast` mixes float types, except for scales of `Resize`."""
    types = element_types(model)
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16}
    for node in model.graph.node:
        if node.op_type not in ("Cast", "Resize"):
            found = {types.get(name) for name in (*node.input, *node.output)} & floats
            assert len(found) <= 1, node.name
