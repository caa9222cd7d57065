"""Opening a model file has a budget: what would cost too much is refused before a library reads it.

The files are made of bytes by hand: the onnx package refuses to write most of them.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import srsdk
from srsdk import Manifest, ManifestError, ModelError
from srsdk.cli.main import main
from srsdk.engines.backends import BACKENDS
from srsdk.engines.foreign import MAX_TRIAL_PX
from srsdk.formats import onnx_limits, protobuf
from srsdk.formats.manifest_fields import MAX_PROFILES
from srsdk.formats.onnx_rewrite import mixed, with_float_boundary
from srsdk.formats.protobuf import BYTES, VARINT, join
from srsdk.manifest import MAX_TEXT_CHARACTERS, METADATA_KEY, parse_manifest, read_manifest
from srsdk.options import Backend

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="pipes, devices, links")
PADDING = b"\xa0\x06\x00"
"""A field that no message of ONNX has: number 100, value 0."""


@cache
def refusal_s() -> float:
    """Return the processor time in which a file must be refused: a second, more on slow machines.

    On an AMD EPYC the loop takes 0.05 s; emulated processors take many times as long.
    """
    began_s = time.process_time()
    sum(number * number for number in range(1_000_000))
    return max(1.0, 20 * (time.process_time() - began_s))


def field(number: int, value: int | str | bytes) -> bytes:
    """Return one field of a message."""
    if isinstance(value, int):
        return join([(number, VARINT, value)])
    return join([(number, BYTES, value.encode() if isinstance(value, str) else value)])


def node(kind: str, inputs: list[str], outputs: list[str], *attributes: bytes) -> bytes:
    """Return a NodeProto as a field of its graph."""
    parts = [field(1, name) for name in inputs] + [field(2, name) for name in outputs]
    parts += [field(4, kind), *(field(5, attribute) for attribute in attributes)]
    return field(1, b"".join(parts))


def port(number: int, name: str | bytes, shape: tuple[int | str, ...]) -> bytes:
    """Return a float input (11) or output (12) as a field of its graph."""
    dims = [field(1, field(1 if isinstance(side, int) else 2, side)) for side in shape]
    tensor = field(1, 1) + field(2, b"".join(dims))
    return field(number, field(1, name) + field(2, field(1, tensor)))


PORTS = port(11, "image", (1, 3, "h", "w")) + port(12, "upscaled", (1, 3, "h", "w"))
COPY = node("Identity", ["image"], ["upscaled"])


def model(graph: bytes, *more: bytes) -> bytes:
    """Return an ONNX file: IR 10, operators of version 20."""
    return field(1, 10) + b"".join(more) + field(7, graph) + field(8, field(2, 20))


def manifest(**changes: object) -> bytes:
    """Return a manifest as a field of the model."""
    values = {"schema": 1, "name": "a", "scale": 1, "channels": 3, "radius_px": 6}
    text = json.dumps({**values, "dtype": "float32", "layout": "NCHW", **changes})
    return field(14, field(1, METADATA_KEY) + field(2, text))


def weight(name: str, dims: list[int], data: bytes = b"\0\0\0\0", *more: bytes) -> bytes:
    """Return a float initializer as a field of its graph."""
    shape = b"".join(field(1, side) for side in dims)
    return field(5, shape + field(2, 1) + field(8, name) + field(9, data) + b"".join(more))


def chain(count: int, kind: str) -> bytes:
    """Return a graph of nodes in a row."""
    names = ["image", *(f"x{index}" for index in range(count - 1)), "upscaled"]
    return b"".join(node(kind, [names[i]], [names[i + 1]]) for i in range(count)) + PORTS


def nested(depth: int) -> bytes:
    """Return a graph of an `If` within an `If`, and so on; both branches, like a binary tree."""

    def subgraph(left: int, name: str) -> bytes:
        inner = branching(left, name) if left else node("Identity", ["image"], [name])
        return inner + field(2, f"g{name}") + port(12, name, (1, 3, "h", "w"))

    def branching(left: int, name: str) -> bytes:
        branches = [
            field(1, branch) + field(6, subgraph(left - 1, name + branch[0])) + field(20, 5)
            for branch in ("then_branch", "else_branch")
        ]
        return node("If", ["yes"], [name], *branches)

    condition = field(5, field(2, 9) + field(8, "yes") + field(9, b"\1"))
    return branching(depth, "upscaled") + condition + PORTS


def calling(depth: int) -> tuple[bytes, bytes]:
    """Return a graph, and functions that each call the one before twice."""
    uses = field(9, field(2, 20)) + field(9, field(1, "d") + field(2, 1))
    ends = field(10, "d") + field(4, "x") + field(5, "y") + uses
    body = node("Identity", ["x"], ["y"])[1:]
    functions = [field(1, "f0") + ends + b"\x3a" + body]
    for index in range(1, depth + 1):
        calls = b"".join(
            field(7, field(1, a) + field(2, b) + field(4, f"f{index - 1}") + field(7, "d"))
            for a, b in (("x", "m"), ("m", "y"))
        )
        functions.append(field(1, f"f{index}") + ends + calls)
    call = field(1, "image") + field(2, "upscaled") + field(4, f"f{depth}") + field(7, "d")
    used = field(8, field(1, "d") + field(2, 1))
    return field(1, call) + PORTS, used + b"".join(field(25, each) for each in functions)


def sparse(size: int) -> bytes:
    """Return a sparse initializer of one value in `size`."""
    values = weight("w", [1])[2:]
    indices = field(1, 1) + field(2, 7) + field(9, bytes(8))
    return field(15, field(1, values) + field(2, indices) + field(3, size))


def expensive() -> dict[str, Callable[[], tuple[bytes, str]]]:
    """Return files that cost the libraries or the reader seconds to minutes, and what is said."""
    some = 3_000_000
    many = "more than 500,000 fields"
    return {
        "padded model": lambda: (model(COPY + PORTS, PADDING * some), many),
        "padded graph": lambda: (model(COPY + PORTS + PADDING * some), many),
        "padded node": lambda: (model(field(1, COPY[2:] + PADDING * some) + PORTS), many),
        "padded metadata": lambda: (
            model(COPY + PORTS, field(14, field(1, "k") + PADDING * 400_000)),
            "1,048,576 bytes or 1,000 fields of metadata",
        ),
        "much metadata": lambda: (
            model(COPY + PORTS, field(14, field(1, "k") + field(2, "v")) * 500_000),
            "1,048,576 bytes or 1,000 fields of metadata",
        ),
        "long metadata": lambda: (
            model(COPY + PORTS, field(14, field(1, "k") + field(2, "v" * 900_000)) * 30),
            "1,048,576 bytes or 1,000 fields of metadata",
        ),
        "profiles": lambda: (
            model(COPY + PORTS, manifest(profiles=[[1, 64, 64]] * 20_000)),
            f"characters, at most {MAX_TEXT_CHARACTERS:,}",
        ),
        "a chain": lambda: (model(chain(60_000, "Transpose")), "more than 40,000 nodes"),
        "layers": lambda: (model(chain(9_000, "Softmax")), "computes 9,000 layers, at most 8,000"),
        "fused": lambda: (model(chain(5_000, "Relu")), "more than 512 elementwise nodes in a row"),
        "If": lambda: (model(nested(12)), "nested more than 8 deep"),
        "subgraphs": lambda: (model(nested(8)), "more than 200 subgraphs"),
        "functions": lambda: (model(*calling(24)), "expand to 16,777,216 nodes, at most 40,000"),
        "recursion": lambda: (model(*calling(90)), "call each other more than 32 deep"),
        "weights": lambda: (
            model(COPY + PORTS + b"".join(weight(f"w{i}", [1]) for i in range(30_000))),
            "more than 20,000 weights and constants",
        ),
        "dims": lambda: (model(COPY + PORTS + weight("w", [1] * 600_000)), many),
        "packed dims": lambda: (
            model(COPY + PORTS + field(5, field(1, b"\1" * some) + field(8, "w"))),
            "more than 32 dimensions",
        ),
        "sparse": lambda: (
            model(COPY + PORTS + sparse(1 << 40)),
            "1,099,511,627,776 values, at most 2,147,483,648",
        ),
        "inputs": lambda: (
            model(COPY + PORTS + port(11, "i", (1,)) * 60_000),
            "more than 50,000 inputs",
        ),
        "outputs": lambda: (
            model(COPY + PORTS + port(12, "upscaled", (1,)) * 100),
            "more than 64 outputs",
        ),
        "attributes": lambda: (
            model(node("Identity", ["image"], ["upscaled"], field(1, "a") + field(8, 1) * some)),
            many,
        ),
        "a name": lambda: (
            model(field(1, COPY[2:] + field(3, "n" * 20_000_000)) + PORTS),
            "a name has 20,000,000 bytes",
        ),
        "operator sets": lambda: (
            model(COPY + PORTS, field(8, field(1, "d") + field(2, 1)) * 100_000),
            "more than 64 operator sets",
        ),
        "a comment": lambda: (
            model(COPY + PORTS, field(6, bytes(70_000_000))),
            "bytes besides its weights, at most 67,108,864",
        ),
    }


@pytest.mark.parametrize("name", expensive())
def test_a_file_that_costs_too_much_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """One sentence with the limit, in less than a second, before a library sees the file."""
    content, said = expensive()[name]()
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    limit_s, began_s = refusal_s(), time.process_time()
    with pytest.raises(ModelError) as error:
        read_manifest(path)
    assert time.process_time() - began_s < limit_s
    assert said in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_backend_opens_it(
    tmp_path: Path, backend: Backend, capsys: pytest.CaptureFixture[str]
) -> None:
    """`Upscaler` and the command line refuse before the library is asked."""
    pytest.importorskip(backend)
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nested(12)))
    limit_s, began_s = refusal_s(), time.process_time()
    with pytest.raises(ModelError, match="nested more than 8 deep"):
        srsdk.Upscaler(path, backend=backend)
    assert main(["info", str(path)]) == 1
    assert time.process_time() - began_s < limit_s
    assert capsys.readouterr().err.count("\n") == 1


def within() -> dict[str, Callable[[], bytes]]:
    """Return files that are just within a limit."""
    return {
        "plain": lambda: model(COPY + PORTS),
        "fused": lambda: model(chain(onnx_limits.MAX_CHAIN, "Relu")),
        "nested": lambda: model(nested(5)),
        "functions": lambda: model(*calling(5)),
        "sparse": lambda: model(COPY + PORTS + sparse(9)),
        "padded": lambda: model(COPY + PORTS + PADDING * 1000),
        "manifest": lambda: model(COPY + PORTS, manifest(size_px=[24, 32])),
    }


@pytest.mark.parametrize("name", within())
def test_a_file_within_the_limits_runs(tmp_path: Path, name: str) -> None:
    """The limits are beyond what real networks have, and the files of these tests are valid."""
    path = tmp_path / "m.onnx"
    path.write_bytes(within()[name]())
    read_manifest(path)
    pytest.importorskip("onnxruntime")
    with srsdk.Upscaler(path, backend="onnxruntime") as up:
        assert up(np.full((24, 32, 3), 99, np.uint8)).shape == (24, 32, 3)


def test_the_weights_are_not_read(tmp_path: Path) -> None:
    """A file of 2 GB is checked in an instant: its weights are skipped."""
    size = 2_000_000_000
    start = field(1, size // 4) + field(2, 1) + field(8, "w") + b"\x4a"
    start += protobuf._encoded(size)
    inner = COPY + PORTS + b"\x2a" + protobuf._encoded(len(start) + size) + start
    content = field(1, 10) + manifest() + b"\x3a" + protobuf._encoded(len(inner) + size) + inner
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.write(content)
        file.truncate(len(content) + size)  # sparse: takes no space
    limit_s, began_s = refusal_s() / 10, time.process_time()
    found = read_manifest(path)
    assert time.process_time() - began_s < limit_s
    assert found is not None
    assert found.name == "a"


def test_a_twin_is_checked_as_well() -> None:
    """A file whose weights are mixed in is read by Python, so it has the same limits."""
    limit_s, began_s = refusal_s(), time.process_time()
    with pytest.raises(ModelError, match="more than 500,000 fields"):
        mixed(model(COPY + PORTS), model(COPY + PORTS + PADDING * 3_000_000), 0.5)
    assert time.process_time() - began_s < limit_s


@pytest.mark.parametrize(("a", "b"), [(bytes(8), bytes(4)), (bytes(3), b"\1\2\3")])
def test_weights_of_other_lengths_are_not_mixed(a: bytes, b: bytes) -> None:
    """NumPy's ValueError about shapes is not what a user sees."""
    parent, twin = (model(COPY + PORTS + weight("w", [1], data)) for data in (a, b))
    with pytest.raises(ModelError, match="expected as many float32 values in both"):
        mixed(parent, twin, 0.5)


def test_a_graph_that_feeds_itself_has_no_end() -> None:
    """The search from the output to the rounding stops at a node that it has seen."""
    loop = node("Cast", ["image"], ["x"]) + node("Identity", ["upscaled"], ["upscaled"]) + PORTS
    with pytest.raises(ModelError, match="its output is not rounded"):
        with_float_boundary(model(loop))


def test_the_name_of_an_operator_stays_on_its_line() -> None:
    """A name from the file is quoted where it holds line breaks or controls a terminal."""
    graph = node("Non\nsense\x1b[31m", ["image"], ["upscaled"]) + PORTS
    with pytest.raises(ModelError, match=r"its input feeds 'Non\\nsense\\x1b\[31m'"):
        with_float_boundary(model(graph))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (node("Constant", [], ["upscaled"], field(1, "value_int") + field(3, 1) + field(20, 2))
         + port(12, "upscaled", ()), "its inputs are none"),
        (COPY + port(11, "image", (1, 3, 0, 0)) + port(12, "upscaled", (1, 3, 0, 0)),
         r"float32 \(1, 3, 0, 0\)"),
        (node("Identity", ["image"], ["upscaled"]) + port(11, b"\xff", (1, 3, "h", "w"))
         + port(12, "upscaled", (1, 3, "h", "w")), "not UTF-8"),
        (COPY + port(11, "image", (1, 3, 60_000, 60_000))
         + port(12, "upscaled", (1, 3, 60_000, 60_000)),
         # on emulated ARM64 OpenVINO itself refuses it first
         f"at most {MAX_TRIAL_PX:,} pixels|cannot run this model"),
        (node("AveragePool", ["image"], ["upscaled"],
              field(1, "kernel_shape") + field(8, 2) * 2 + field(20, 7),
              field(1, "strides") + field(8, 2) * 2 + field(20, 7)) + PORTS,
         "expected 1 to 16 times height and width"),
    ],
    ids=["no input", "no pixels", "no text", "huge", "smaller"],
)  # fmt: skip
def test_graphs_that_are_no_network_of_pictures(
    tmp_path: Path, backend: Backend, graph: bytes, said: str
) -> None:
    """A ModelError, not the IndexError or ZeroDivisionError of the code that opens it."""
    pytest.importorskip(backend)
    path = tmp_path / "m.onnx"
    path.write_bytes(model(graph))
    with pytest.raises(ModelError, match=said):
        srsdk.Upscaler(path, backend=backend)


NUMBERS = [math.nan, math.inf, -math.inf, True, "99", 10**400]


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize(
    "name", ["scale", "radius_px", "multiple_px", "channels", "parity_db", "parity_lsb", "texture"]
)
def test_numbers_of_a_manifest(name: str, value: object) -> None:
    """NaN, infinities, booleans, text and numbers beyond all sizes are refused in every field."""
    check_refused({name: value})


@pytest.mark.parametrize("value", [*NUMBERS, -1, 99.5, None, [55]])
def test_the_lowest_psnr_of_a_probe(value: object) -> None:
    """`-Infinity` would switch half of the self-test off."""
    probe = {"size_px": [8, 8], "samples": "AAAA", "min_psnr_db": 55.0, "max_lsb": 2}
    parse_manifest(json.dumps({**values(), "probe": probe}), source="x")
    check_refused({"probe": {**probe, "min_psnr_db": value}})


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": True},
        {"schema": 1.0},
        {"size_px": [1 << 40, 8]},
        {"size_px": [60_000, 60_000]},
        {"size_px": [True, 8]},
        {"profiles": [[1, 8, 8]] * (MAX_PROFILES + 1)},
        {"profiles": [[10**9, 8, 8]]},
        {"sms": [86] * 65},
        {"licence": "x" * 20_000},
        {"name": "x" * 20_000},
        {"scores": {"Set5": {"psnr_y_db": math.nan}}},
        {"scores": {f"s{i}": {} for i in range(300)}},
        {"scores": {"x" * 20_000: {}}},
        {"built_with": {f"p{i}": "1" for i in range(100)}},
        {"training_licenses": ["MIT"] * 65},
        {"training_licenses": ["x" * 20_000]},
        {"x" * 20_000: 1},
        {"a\nb": 1},
        {"probe": {"size_px": [4096, 4096], "samples": "AAAA", "min_psnr_db": 9, "max_lsb": 2}},
        {"probe": {"size_px": [8, 8], "samples": "AAAA" * 9999, "min_psnr_db": 9, "max_lsb": 2}},
    ],
)
def test_lists_and_texts_of_a_manifest(changes: dict[str, object]) -> None:
    """Each has a limit, and a wrong one is shortened in the message."""
    check_refused(changes)


def test_infinity_by_a_large_exponent() -> None:
    """`1e999` is infinite without being called so."""
    text = json.dumps({**values(), "parity_db": 1}).replace('"parity_db": 1', '"parity_db": 1e999')
    with pytest.raises(ManifestError, match="parity_db is inf"):
        parse_manifest(text, source="x")


def values() -> dict[str, object]:
    """Return a manifest as JSON has it."""
    return json.loads(Manifest(name="a", scale=2, channels=3, radius_px=6).to_json())  # type: ignore[no-any-return]


def check_refused(changes: dict[str, object]) -> None:
    """One short sentence, in less than a second."""
    limit_s, began_s = refusal_s(), time.process_time()
    with pytest.raises(ManifestError) as error:
        parse_manifest(json.dumps({**values(), **changes}), source="x")
    assert time.process_time() - began_s < limit_s
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@POSIX
@pytest.mark.parametrize("suffix", [".onnx", ".engine"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("pipe", "is a pipe, expected a model file"),
        ("device", "is a device, expected a model file"),
        ("folder", "is a folder, expected a model file"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
        ("dangling", "no such model file"),
        ("empty", r"is empty \(0 bytes\)"),
        ("byte", "is not a"),
        ("text", "is not a"),
        ("picture", "is not a"),
    ],
)
def test_what_is_no_file_of_a_model(tmp_path: Path, suffix: str, kind: str, said: str) -> None:
    """One sentence, and no waiting for a pipe that nobody writes to."""
    path = tmp_path / f"m{suffix}"
    make: dict[str, Callable[[], object]] = {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to(path),
        "dangling": lambda: path.symlink_to(tmp_path / "none"),
        "empty": lambda: path.write_bytes(b""),
        "byte": lambda: path.write_bytes(b"\x08"),
        "text": lambda: path.write_text("hello, this is text"),
        "picture": lambda: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    }
    make[kind]()
    with pytest.raises(ModelError, match=said) as error:
        read_manifest(path)
    assert "\n" not in str(error.value)
    with pytest.raises(srsdk.SrsdkError):
        srsdk.Upscaler(path)


@POSIX
@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("pipe.bin", "pipe.bin is a pipe, expected the weights of"),
        ("/dev/zero", "outside the model's folder"),
        ("../x.bin", "outside the model's folder"),
        ("", "outside the model's folder"),
        ("a\0b", "in 'a\\x00b', expected a name"),
        ("a\nb", "in 'a\\nb', expected a name"),
        ("x" * 5000, "expected a name of at most 1000 printable characters"),
        ("none.bin", "none.bin does not exist, expected the weights of"),
        ("loop.bin", "loop.bin"),
    ],
)
def test_weights_in_another_file(tmp_path: Path, location: str, said: str) -> None:
    """A library would wait for a pipe, and read what lies outside."""
    os.mkfifo(tmp_path / "pipe.bin")
    (tmp_path / "loop.bin").symlink_to(tmp_path / "loop.bin")
    entry = field(13, field(1, "location") + field(2, location))
    path = tmp_path / "m.onnx"
    path.write_bytes(model(COPY + PORTS + weight("w", [1], b"", field(14, 1), entry)))
    with pytest.raises(ModelError) as error:
        read_manifest(path)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        b'{"schema":' + b"[" * 5000,
        b'{"schema":1,"a":' * 300,
        b'{"schema":1,"parity_db":NaN,' + b"x" * 5000,
        b'{"schema":' * 500_000,
        b'{"schema":' + b"9" * 5000,
    ],
    ids=["brackets", "objects", "NaN", "starts", "digits"],
)
def test_a_plan_with_a_hostile_name(tmp_path: Path, text: bytes) -> None:
    """Depth, length and numbers of the text in a plan are limited as in an ONNX file."""
    path = tmp_path / "m.engine"
    path.write_bytes(struct.pack("<4s12xQ4B4xI28x", b"vtrt", 1 << 63, 1, 7, 1, 116, 28) + text)
    limit_s, began_s = refusal_s(), time.process_time()
    with pytest.raises(ManifestError):
        read_manifest(path)
    assert time.process_time() - began_s < limit_s


def test_a_large_plan_is_searched_in_blocks(tmp_path: Path) -> None:
    """The start of a manifest is found across the border of two blocks, and 64 MiB take no time."""
    text = Manifest(name="toy", scale=2, channels=3, radius_px=5).to_json().encode()
    path = tmp_path / "m.engine"
    for before in range((1 << 20) - 12, (1 << 20) + 2):
        path.write_bytes(b"ptrt" + bytes(before - 4) + text + bytes(9))
        found = read_manifest(path)
        assert found is not None
        assert found.name == "toy"
    with path.open("wb") as file:
        file.write(b"ptrt")
        file.truncate(1 << 30)
    limit_s, began_s = refusal_s(), time.process_time()
    assert read_manifest(path) is None
    assert time.process_time() - began_s < limit_s
