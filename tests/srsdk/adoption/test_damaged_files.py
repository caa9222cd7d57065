"""Files with changed bytes: an error of srsdk, or a graph, never another exception."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path

import srsdk
from srsdk.adoption import hints
from srsdk.adoption.boundary import wrapped
from srsdk.adoption.graph import read_graph, with_weights_inside
from srsdk.adoption.io import IO
from srsdk.adoption.ports import choose_ports
from srsdk.adoption.tiles.operators import static_radius
from srsdk.formats.onnx_metadata import check_onnx
from tests.srsdk.adoption.nets import Net

ROUNDS = 4000
NETS = (Net(), Net(noise="map"), Net(dtype="float16", multiple=4), Net(opset=7, extra_output=True))


def changed(content: bytes, source: random.Random) -> bytes:
    """Change, remove or add a few bytes."""
    result = bytearray(content)
    for _ in range(source.choice([1, 1, 2, 3, 8])):
        at, kind = source.randrange(len(result)), source.random()
        if kind < 0.6:
            result[at] = source.randrange(256)
        elif kind < 0.8:
            del result[at : at + source.randrange(1, 9)]
        else:
            result[at:at] = source.randbytes(source.randrange(1, 5))
    return bytes(result)


def read(content: bytes, folder: Path) -> None:
    """Do all that is done before a library sees the file."""
    check_onnx(BytesIO(content), len(content), "net")
    model = with_weights_inside(content, folder, "net")
    graph = read_graph(model, "net")
    form = choose_ports("net", graph, IO()).form
    hints.input_range(graph, form.input)
    hints.output_range(graph, form.output)
    static_radius(graph, form.input, form.output)
    for kind in ("raw", "unit", "uint8"):
        wrapped(model, form, graph.opset, 2, kind)


def test_changed_bytes_are_an_error_of_srsdk(tmp_path: Path) -> None:
    """The graph is read, or refused in a sentence."""
    files = [net.save(tmp_path / "net.onnx").read_bytes() for net in NETS]
    source = random.Random(0)
    refused = 0
    for _ in range(ROUNDS):
        try:
            read(changed(source.choice(files), source), tmp_path)
        except srsdk.SrsdkError:
            refused += 1
    assert 0 < refused < ROUNDS
