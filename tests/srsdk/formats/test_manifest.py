"""The manifest is stored in the model file and validated field by field."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import itertools
import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srsdk import Manifest, ManifestError, ModelError, models
from srsdk.manifest import METADATA_KEY, parse_manifest, read_manifest
from tests import networks

FULL = Manifest(
    name="toy",
    family="gan",
    scale=4,
    channels=3,
    radius_px=10,
    multiple_px=2,
    size_px=(64, 96),
    precision="fp32",
    flavour="rtx",
    profiles=((1, 64, 96), (4, 64, 96)),
    library_version="1.7.1.116",
    sms=(86, 120),
    radius_measured=True,
    parity_db=99.5,
    parity_lsb=1,
    parity_of="graph",
    scores=MappingProxyType({"Set5": MappingProxyType({"psnr_y_db": 31.2, "ssim_y": 0.88})}),
    weights_sha256="00" * 32,
    texture=0.5,
    licence="Apache-2.0",
    training_data="dead leaves",
    training_licenses=("CC-BY-4.0", "LicenseRef-Unsplash"),
    inputs=MappingProxyType({"noise": -1.0}),
    input_ranges=MappingProxyType({"noise": (-1.0, 50.0)}),
    built_with=MappingProxyType({"torch": "2.13.0"}),
    build_key="11" * 32,
)


def test_text_and_value_are_the_same() -> None:
    """Serializing and parsing returns the same value."""
    assert parse_manifest(FULL.to_json(), source="x") == FULL


def test_literal_text() -> None:
    """Files written with this schema stay readable: the text is fixed here."""
    text = '{"schema":1,"name":"a","scale":2,"channels":1,"radius_px":6,"dtype":"float32"}'
    manifest = parse_manifest(text, source="x")
    assert (manifest.name, manifest.scale, manifest.channels) == ("a", 2, 1)
    assert (manifest.dtype, manifest.layout, manifest.family) == ("float32", "NHWC", "foreign")


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("name", "", "a string"),
        ("name", 3, "a string"),
        ("family", "cnn", "gan or ae or vae or foreign"),
        ("scale", 0, "from 1 to 16"),
        ("scale", 2.0, "from 1 to 16"),
        ("scale", True, "from 1 to 16"),
        ("channels", 5, "1, 3 or 4"),
        ("dtype", "float16", "uint8 or float32"),
        ("layout", "HWC", "NHWC or NCHW"),
        ("radius_px", -1, "from 0 to 4096"),
        ("multiple_px", 0, "from 1 to 256"),
        ("size_px", [64], r"null or \[height, width\]"),
        ("size_px", [64, 0], r"null or \[height, width\]"),
        ("precision", "int4", "fp32 or fp16 or int8"),
        ("flavour", "npu", "portable or cpu or gpu or rtx or tensorrt"),
        ("profiles", 3, r"a list of \[batch, height, width\]"),
        ("profiles", [[1, 64]], r"a list of \[batch, height, width\]"),
        ("profiles", [[1, 0, 64]], r"a list of \[batch, height, width\]"),
        ("library_version", 1.7, "a string"),
        ("sms", 86, "a list of numbers such as 86"),
        ("sms", ["86"], "a list of numbers such as 86"),
        ("sms", [8], "a list of numbers such as 86"),
        ("radius_measured", 1, "true or false"),
        ("parity_db", "good", "null or a number"),
        ("parity_lsb", 0.5, "null or a whole number from 0 to 255"),
        ("parity_lsb", 256, "null or a whole number from 0 to 255"),
        ("parity_of", "engine", "file or graph"),
        ("texture", "much", "null or a number from 0 to 1"),
        ("texture", True, "null or a number from 0 to 1"),
        ("texture", -0.1, "null or a number from 0 to 1"),
        ("texture", 1.5, "null or a number from 0 to 1"),
        ("build_key", 7, "a string"),
        ("input_ranges", [1], r"an object of \[lowest, highest\] by name"),
        ("input_ranges", {"noise": [1]}, r"an object of \[lowest, highest\] by name"),
        ("input_ranges", {"noise": [1, "2"]}, r"an object of \[lowest, highest\] by name"),
        ("input_ranges", {"noise": [2, 1]}, r"an object of \[lowest, highest\] by name"),
        ("training_licenses", "CC0-1.0", "a list of SPDX identifiers such as CC0-1.0"),
        ("training_licenses", ["CC0-1.0 OR MIT"], "a list of SPDX identifiers such as CC0-1.0"),
        ("training_licenses", [7], "a list of SPDX identifiers such as CC0-1.0"),
        ("scores", {"Set5": 31.0}, "an object of numbers"),
        ("built_with", {"torch": 2}, "an object of strings"),
        ("schema", 2, "1"),
        ("color", "red", "one of the fields"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any, allowed: str) -> None:
    """The error names file, field, value and what is allowed."""
    values = json.loads(FULL.to_json()) | {field: value}
    with pytest.raises(ManifestError, match=rf"file\.onnx.*{field}.*allowed: .*{allowed}") as error:
        parse_manifest(json.dumps(values), source="file.onnx")
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("field", ["name", "scale", "channels", "radius_px"])
def test_a_missing_field_is_named(field: str) -> None:
    """Fields without a safe default are required."""
    values = json.loads(FULL.to_json())
    del values[field]
    with pytest.raises(ManifestError, match=f"{field} is missing"):
        parse_manifest(json.dumps(values), source="x")


def test_later_fields_are_written_only_if_set() -> None:
    """A file without training licenses has the text that version 0.1.0 reads."""
    assert '"training_licenses":["CC-BY-4.0","LicenseRef-Unsplash"]' in FULL.to_json()
    without = dataclasses.replace(FULL, training_licenses=())
    assert "training_licenses" not in without.to_json()
    assert parse_manifest(without.to_json(), source="x") == without


def test_a_manifest_that_is_no_json_table() -> None:
    """Broken JSON and JSON that is not an object are rejected."""
    for text in ("{", "[]", "null", "3"):
        with pytest.raises(ManifestError):
            parse_manifest(text, source="x")


def test_every_field_is_documented() -> None:
    """Each field has a docstring below it."""
    (definition,) = ast.parse(inspect.getsource(Manifest)).body
    assert isinstance(definition, ast.ClassDef)
    for node, below in itertools.pairwise(definition.body):
        if isinstance(node, ast.AnnAssign):
            assert isinstance(below, ast.Expr), ast.unparse(node)
            assert isinstance(below.value, ast.Constant), ast.unparse(node)


def test_reading_from_a_file(tmp_path: Path) -> None:
    """The manifest is found in a real ONNX file; a file without one returns None."""
    with_manifest = networks.identity(tmp_path / "a.onnx", metadata={METADATA_KEY: FULL.to_json()})
    without = networks.identity(tmp_path / "b.onnx", metadata={"other": "x"})
    assert read_manifest(with_manifest) == FULL
    assert read_manifest(without) is None


@pytest.mark.parametrize("name", models.shipped())
def test_the_reader_agrees_with_onnx(name: str) -> None:
    """Our reader and the onnx package return the same metadata of the shipped files."""
    path = models.find(name)
    model = onnx.load(path)
    theirs = {entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY]
    assert read_manifest(path) == parse_manifest(theirs, source="x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"hello, this is text", "is not an ONNX model"),
        (b"\x08\x0a", "no graph"),
        (b"\x08", "ends inside a number"),
        (b"\x3a\xff\xff\xff\xff\x0f", "past the end of the file"),
        (b"\xff" * 64, "is not an ONNX model"),
    ],
)
def test_no_onnx_file(tmp_path: Path, content: bytes, message: str) -> None:
    """A damaged file raises one sentence that names the file."""
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as error:
        read_manifest(path)
    assert "bad.onnx" in str(error.value)


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(ModelError, match="is a folder"):
        read_manifest(tmp_path)
    with pytest.raises(ModelError, match="no such model file"):
        read_manifest(tmp_path / "none.onnx")


@given(data=st.binary(max_size=200))
def test_random_bytes_never_surprise(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Any bytes give metadata or a ModelError."""
    path = tmp_path_factory.getbasetemp() / "random.onnx"
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        read_manifest(path)


def test_a_cut_off_model(tmp_path: Path) -> None:
    """Every truncation of a model is detected or harmless, never a crash."""
    whole = networks.identity(tmp_path / "m.onnx", metadata={METADATA_KEY: FULL.to_json()})
    data = whole.read_bytes()
    for length in range(len(data)):
        whole.write_bytes(data[:length])
        try:
            assert read_manifest(whole) in (None, FULL)
        except ModelError:
            continue
