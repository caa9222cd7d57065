"""Damaged and foreign ONNX files: one sentence in our words, with the node and the fix."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.cli import main
from export.errors import ExportError
from export.graph.onnx_errors import LONGEST, sentence
from export.sources.onnx_file import open_onnx
from tests.export.test_command import repeats_pixels

AGAIN = "export the model again with opset 20"


def changed(tmp_path: Path, change: Callable[[ModelProto], None]) -> Path:
    """Write a good model with one change."""
    path = repeats_pixels(tmp_path / "net.onnx")
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def _opset(version: int) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        model.opset_import[0].version = version

    return change


def _custom(model: ModelProto) -> None:
    model.graph.node[0].op_type, model.graph.node[0].domain = "Magic", "com.acme"
    model.opset_import.append(helper.make_opsetid("com.acme", 1))


def _unordered(model: ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _external(location: str, **facts: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **facts}.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    return change


def _replace_weights(values: Any) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))

    return change


def _set(path: str, value: Any) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        *parents, name = path.split(".")
        found: Any = model
        for part in parents:
            found = found[int(part)] if part.isdecimal() else getattr(found, part)
        if name.isdecimal():
            found[int(name)] = value
        else:
            setattr(found, name, value)

    return change


CASES: dict[str, tuple[Callable[[ModelProto], None], str]] = {
    "unknown operator": (
        _set("graph.node.0.op_type", "Convv"),
        "damaged: node 'conv' (Convv) is no operator of ONNX at opset 20; correct its name",
    ),
    "operator of a domain": (
        _custom,
        "operator Magic of domain com.acme is not standard: ONNX Runtime and TensorRT lack it",
    ),
    "old attribute": (
        _opset(9),
        "node 'shuffle' (DepthToSpace) has an attribute 'mode' that its opset does not know; "
        + AGAIN,
    ),
    "future opset": (_opset(400), "has opset 400, and the installed onnx knows up to "),
    "no opset": (lambda m: m.ClearField("opset_import"), f"does not say its opset; {AGAIN}"),
    "future format": (
        _set("ir_version", 99),
        "IR version 99, and the installed onnx reads up to ",
    ),
    "missing input": (
        _set("graph.node.0.input.0", "zz"),
        "node 'conv' (Conv) reads 'zz', which no input, weight or earlier node makes",
    ),
    "wrong order": (_unordered, "node 'shuffle' (DepthToSpace) reads 'c', which no input"),
    "missing output": (_set("graph.output.0.name", "zz"), "no node makes its output 'zz'"),
    "short weights": (
        lambda m: _set("graph.initializer.0.raw_data", b"1234")(m),
        "weights 'w' have 4 bytes, expected 144; the file is truncated: copy it again",
    ),
    "wrong shape": (
        _replace_weights(np.zeros((12, 5, 1, 1), np.float32)),
        "cannot be computed: Input channels C is not equal to kernel channels",
    ),
    "wrong block": (
        _set("graph.node.1.attribute.0.i", 5),
        "node 'shuffle' (DepthToSpace) cannot be computed: ",
    ),
    "NaN": (
        _replace_weights(np.full((12, 3, 1, 1), np.nan, np.float32)),
        "weights 'w' hold NaN or infinity",
    ),
    "missing file of weights": (_external("weights.bin"), "weights.bin does not exist"),
    "short file of weights": (
        _external("short.bin", offset="0", length="144"),
        "weights 'w' have 8 bytes in the file beside it, expected 144; copy both files again",
    ),
    "weights elsewhere": (_external("../secret.bin"), "outside the model's folder"),
    "integer input": (
        _set("graph.input.0.type.tensor_type.elem_type", TensorProto.INT64),
        "input 'x' is INT64 (n, 3, height, width), expected FLOAT with four dimensions",
    ),
    "unknown channels": (
        _set("graph.input.0.type.tensor_type.shape.dim.1.dim_param", "c"),
        "input 'x' is (n, c, height, width), expected 1 or 3 channels",
    ),
    "two inputs": (
        lambda m: m.graph.input.append(
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1])
        ),
        "takes mask beside the picture",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_error_names_the_node_and_the_fix(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line with the file; no C++ path, no library's tag, nothing that a library prints."""
    change, message = CASES[name]
    (tmp_path / "short.bin").write_bytes(bytes(8))
    path = changed(tmp_path, change)
    assert main([str(path), "-o", f"{tmp_path}/out"]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line
    assert "net.onnx" in line
    assert not re.search(r"ONNXRuntimeError|==>|::|/\w+\.(cc|h):|Context:", line)
    assert not (tmp_path / "out").exists()


def test_the_cause_is_kept(tmp_path: Path) -> None:
    """Who debugs a converter finds the library's own exception."""
    path = changed(tmp_path, _set("graph.node.0.op_type", "Convv"))
    with pytest.raises(ExportError) as error:
        open_onnx(path)
    assert isinstance(error.value.__cause__, onnx.checker.ValidationError)


@pytest.mark.parametrize("data", [b"", b"no model" * 100, bytes(range(256)), b"\x08\x0a"])
def test_what_is_no_model_is_one_sentence(
    tmp_path: Path, data: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Empty files, text and noise."""
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    assert main([str(path), "-o", f"{tmp_path}/out"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"net\.onnx is (not an ONNX model|empty)", line)


def test_unknown_texts_are_cleaned() -> None:
    """What is not known here is cut, and loses tags and C++ signatures."""
    text = (
        "[ONNXRuntimeError] : 1 : FAIL : /src/graph.cc:46 void f(const int&) No luck.\n" + "x" * 999
    )
    said = sentence(RuntimeError(text))
    assert said.startswith("No luck. x")
    assert len(said) == LONGEST
    assert sentence(ValueError("")) == "ValueError"
