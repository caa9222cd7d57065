"""Read what an ONNX graph says of its inputs, outputs and operators, without the onnx package.

Field numbers: onnx.proto of https://github.com/onnx/onnx.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from srsdk.errors import ModelError
from srsdk.formats.protobuf import BYTES, FIXED32, VARINT, Value, join, split

Fields = list[tuple[int, int, Value]]
Shape = tuple[int | None, ...]

GRAPH, OPSET = 7, 8
NODE, INITIALIZER, INPUT, OUTPUT = 1, 5, 11, 12
DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16",
          11: "float64", 16: "bfloat16"}  # fmt: skip
"""Names of ONNX's element types."""
NUMBERS = {name: number for number, name in DTYPES.items()}
MAX_MODEL_BYTES = (1 << 31) - 1
"""Protobuf's own limit."""
_DIMS, _DATA_TYPE, _FLOATS, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 4, 8, 9, 13, 14
_CONSTANTS = {"float32": "<f4", "float16": "<f2", "int64": "<i8"}
"""Types of the constants that are read, and how."""
_MAX_CONSTANT = 16
"""Values of a constant that is read, such as the limits of a Clip."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph."""

    name: str
    """Its tensor."""
    dtype: str
    """Name of its type; of a type that is not known here its number."""
    shape: Shape
    """Dimensions; None: any."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a graph."""

    op: str
    """Operator."""
    inputs: tuple[str, ...]
    """Tensors that it reads; "": an input left out."""
    outputs: tuple[str, ...]
    """Tensors that it makes."""
    attributes: tuple[bytes, ...]
    """AttributeProto messages."""

    def ints(self, name: str) -> tuple[int, ...] | None:
        """Return an attribute of whole numbers, or None."""
        fields = self._attribute(name)
        if fields is None:
            return None
        found = list[int]()
        for number, wire, value in fields:
            if number == 8 and wire == BYTES and isinstance(value, bytes):
                found += _packed(value)
            elif number in (3, 8) and isinstance(value, int):
                found.append(_signed(value))
        return tuple(found)

    def number(self, name: str) -> float | None:
        """Return an attribute that is a float, or None."""
        for number, wire, value in self._attribute(name) or []:
            if number == 2 and wire == FIXED32 and isinstance(value, bytes):
                return float(struct.unpack("<f", value)[0])
        return None

    def _attribute(self, name: str) -> Fields | None:
        for message in self.attributes:
            fields = split(message)
            if (1, BYTES, name.encode()) in fields:
                return fields
        return None


@dataclass(frozen=True)
class Graph:
    """The structure of a model's main graph."""

    opset: int
    """Version of ONNX's own operators."""
    inputs: tuple[Port, ...]
    """Inputs that are no weights."""
    outputs: tuple[Port, ...]
    """Outputs."""
    nodes: tuple[Node, ...]
    """Operators in their order."""
    weights: dict[str, tuple[int, ...]]
    """Dimensions of the weights, by name."""
    weight_dtypes: frozenset[str]
    """Types of the weights of two or more dimensions."""
    constants: dict[str, tuple[float, ...]]
    """Values of the constants of a few values, by name."""


def read_graph(model: bytes, source: str) -> Graph:
    """Read the structure of a model, whose size `srsdk.formats.onnx_limits` has checked.

    Raises:
        ModelError: not an ONNX model, or its operators are older than opset 7.
    """
    fields = split(model)
    graph = split(graph_bytes(fields, source))
    tensors = {}
    for message in messages(graph, INITIALIZER):
        tensor = split(message)
        tensors[_text(tensor, _NAME)] = tensor
    nodes = tuple(_node(split(message)) for message in messages(graph, NODE))
    for node in nodes:
        value = _value(node) if node.op == "Constant" and node.outputs else None
        if value is not None:
            tensors[node.outputs[0]] = value
    ports = [[_port(split(message)) for message in messages(graph, number)]
             for number in (INPUT, OUTPUT)]  # fmt: skip
    opset = _opset(fields)
    if opset < 7:
        raise ModelError(
            f"{source} has opset {opset}, expected 7 or later: export it again, or convert it with "
            "onnx.version_converter"
        )
    return Graph(
        opset,
        tuple(port for port in ports[0] if port.name not in tensors),
        tuple(ports[1]),
        nodes,
        {name: _dims(tensor) for name, tensor in tensors.items()},
        frozenset(_dtype(tensor) for tensor in tensors.values() if len(_dims(tensor)) > 1),
        _with_copies({n: v for n, t in tensors.items() if (v := _values(t))}, nodes),
    )


def with_weights_inside(model: bytes, folder: Path, source: str) -> bytes:
    """Return the model with the weights that lie in other files of its folder.

    The names of the files were checked when the metadata was read.

    Raises:
        ModelError: a file is too short, or the whole is larger than protobuf allows.
    """
    fields = split(model)
    graph = split(graph_bytes(fields, source))
    if not any((_LOCATION, VARINT, 1) in split(m) for m in messages(graph, INITIALIZER)):
        return model
    total = 0
    for at, (number, _, value) in enumerate(graph):
        if number == INITIALIZER and isinstance(value, bytes):
            tensor = _inside(split(value), folder, source)
            total += len(tensor)
            if total > MAX_MODEL_BYTES:
                raise ModelError(f"{source} has over 2 GB of weights, expected less")
            graph[at] = (number, BYTES, tensor)
    return join([(n, w, join(graph) if n == GRAPH else v) for n, w, v in fields])


def graph_bytes(fields: Fields, source: str) -> bytes:
    """Return the graph of a model's fields."""
    found = messages(fields, GRAPH)
    if not found:
        raise ModelError(f"{source} is not an ONNX model: it has no graph")
    return found[0]


def messages(fields: Fields, number: int) -> list[bytes]:
    """Return the values of a field that are messages or strings."""
    return [v for n, wire, v in fields if n == number and wire == BYTES and isinstance(v, bytes)]


def _inside(tensor: Fields, folder: Path, source: str) -> bytes:
    if (_LOCATION, VARINT, 1) not in tensor:
        return join(tensor)
    entries = [split(message) for message in messages(tensor, _EXTERNAL)]
    keys = {_text(entry, 1): _text(entry, 2) for entry in entries}
    name = _text(tensor, _NAME)
    try:
        offset, length = int(keys.get("offset", 0)), int(keys["length"]) if "length" in keys else -1
        with open(folder / os.fspath(keys["location"]), "rb") as file:
            file.seek(offset)
            data = file.read(length)
    except (KeyError, ValueError, OSError) as error:
        raise ModelError(f"{source}: its weights {name!r} cannot be read: {error}") from error
    if len(data) < length:
        raise ModelError(
            f"{source}: weights {name!r} have {len(data)} bytes in {keys['location']}, expected "
            f"{length}: copy both files again"
        )
    kept = [field for field in tensor if field[0] not in (_EXTERNAL, _LOCATION, _RAW)]
    return join([*kept, (_RAW, BYTES, data)])


def _node(fields: Fields) -> Node:
    inputs, outputs = (
        tuple(message.decode("utf-8", "replace") for message in messages(fields, number))
        for number in (1, 2)
    )
    return Node(_text(fields, 4), inputs, outputs, tuple(messages(fields, 5)))


def _value(node: Node) -> Fields | None:
    """Return the tensor of a Constant."""
    for message in node.attributes:
        fields = split(message)
        if (1, BYTES, b"value") in fields and (found := messages(fields, 5)):
            return split(found[0])
    return None


def _port(fields: Fields) -> Port:
    kind = messages(fields, 2)
    tensor = messages(split(kind[0]), 1) if kind else []
    described = split(tensor[0]) if tensor else []
    number = next((v for n, w, v in described if n == 1 and w == VARINT), 0)
    shape = messages(described, 2)
    dims = [split(dim) for dim in messages(split(shape[0]), 1)] if shape else []
    name = DTYPES.get(int(number) if isinstance(number, int) else 0, f"type {number!r}")
    return Port(_text(fields, 1), name, tuple(map(_dim, dims)))


def _dim(fields: Fields) -> int | None:
    value = next((v for n, w, v in fields if n == 1 and w == VARINT), None)
    size = _signed(value) if isinstance(value, int) else -1
    return size if size >= 0 else None


def _dims(tensor: Fields) -> tuple[int, ...]:
    found = list[int]()
    for number, wire, value in tensor:
        if number == _DIMS and wire == VARINT and isinstance(value, int):
            found.append(value)
        elif number == _DIMS and isinstance(value, bytes):
            found += _packed(value)
    return tuple(found)


def _dtype(tensor: Fields) -> str:
    number = next((v for n, w, v in tensor if n == _DATA_TYPE and w == VARINT), 0)
    return DTYPES.get(number if isinstance(number, int) else 0, "")


def _values(tensor: Fields) -> tuple[float, ...]:
    """Return the values of a small constant; of a large one or of another type none."""
    dtype = _dtype(tensor)
    if dtype not in _CONSTANTS:
        return ()
    for data in messages(tensor, _RAW) + (messages(tensor, _FLOATS) if dtype == "float32" else []):
        item_bytes = np.dtype(_CONSTANTS[dtype]).itemsize
        if len(data) <= item_bytes * _MAX_CONSTANT and len(data) % item_bytes == 0:
            values: npt.NDArray[Any] = np.frombuffer(data, _CONSTANTS[dtype])
            return tuple(map(float, values))
    single = [v for n, w, v in tensor if n == _FLOATS and w == FIXED32 and isinstance(v, bytes)]
    return tuple(float(struct.unpack("<f", v)[0]) for v in single[:_MAX_CONSTANT])


def _with_copies(
    constants: dict[str, tuple[float, ...]], nodes: tuple[Node, ...]
) -> dict[str, tuple[float, ...]]:
    """Add the constants that are casts of others."""
    for node in nodes:
        copied = constants.get(node.inputs[0]) if node.inputs else None
        if node.op in ("Cast", "Identity") and node.outputs and copied is not None:
            constants[node.outputs[0]] = copied
    return constants


def _opset(fields: Fields) -> int:
    for message in messages(fields, OPSET):
        entry = split(message)
        if _text(entry, 1) in ("", "ai.onnx"):
            return next((int(v) for n, _, v in entry if n == 2 and isinstance(v, int)), 1)
    return 1


def _text(fields: Fields, number: int) -> str:
    found = messages(fields, number)
    return found[0].decode("utf-8", "replace") if found else ""


def _packed(data: bytes) -> list[int]:
    """Return the numbers of a packed field."""
    found, value, shift = list[int](), 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(_signed(value))
            value = shift = 0
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
