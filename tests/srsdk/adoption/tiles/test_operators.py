"""The receptive field that the operators give, against NaN in the network itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from srsdk.adoption.graph import read_graph
from srsdk.adoption.tiles.operators import static_radius
from tests.srsdk.adoption.nets import Net

NETS = {
    "x1": Net(scale=1),
    "x2": Net(scale=2),
    "x3": Net(scale=3),
    "a border that is cut off": Net(margin=4),
    "blocks": Net(multiple=4),
    "opset 7": Net(opset=7),
    "float16": Net(dtype="float16"),
}


@pytest.mark.parametrize("name", NETS)
def test_it_covers_all_that_is_seen(tmp_path: Path, name: str) -> None:
    """One NaN spreads over every result that depends on it; at most a few pixels are given more."""
    net = NETS[name]
    path = net.save(tmp_path / "net.onnx")
    graph = read_graph(path.read_bytes(), "net")
    radius = static_radius(graph, "in.put", "out.put")
    assert radius is not None
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    side, reached = 48, 0
    for at in (22, 23, 24, 25):
        picture = np.zeros((1, 3, side, side), np.float16 if net.dtype == "float16" else np.float32)
        picture[0, :, at, at] = np.nan
        [result] = session.run(["out.put"], {"in.put": picture})
        rows = np.isnan(result.astype(np.float32)).any(axis=(0, 1, 3)).nonzero()[0] / net.scale
        rows += net.margin
        reached = max(reached, int(np.abs(np.floor(rows) - at).max()))
    assert reached <= radius <= 2 * reached + net.multiple


def test_global_context_has_none(tmp_path: Path) -> None:
    """The mean of the picture is seen by every pixel."""
    import onnx

    path = Net().save(tmp_path / "net.onnx")
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "Conv":
            pool = onnx.helper.make_node("GlobalAveragePool", [node.output[0]], ["mean"])
            both = onnx.helper.make_node("Add", [node.output[0], "mean"], ["both"])
            for other in model.graph.node:
                for index, name in enumerate(other.input):
                    if name == node.output[0]:
                        other.input[index] = "both"
            model.graph.node.extend([pool, both])
            break
    graph = read_graph(model.SerializeToString(), "net")
    assert static_radius(graph, "in.put", "out.put") is None
