"""Write ONNX nodes, weights and ports as protobuf messages, without the onnx package.

Field numbers: onnx.proto of https://github.com/onnx/onnx.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from srsdk.adoption.graph import NUMBERS, Fields
from srsdk.formats.protobuf import BYTES, FIXED32, VARINT, join

PREFIX = "srsdk."
"""Of all names that are added to a graph."""
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7
_TENSOR_TYPES = {"float32": 1, "int64": 7}


class Writer:
    """Collects nodes and constants; each method returns the name of the tensor that it makes."""

    def __init__(self, part: str) -> None:
        self.nodes: list[bytes] = []
        """NodeProto messages."""
        self.weights: list[bytes] = []
        """TensorProto messages."""
        self._part = f"{PREFIX}{part}."
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], str] = {}

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        *,
        output: str = "",
        **attributes: int | float | str | Sequence[int],
    ) -> str:
        """Add an operator with one output, which is named `output` if that is given."""
        name = f"{self._part}{op.lower()}{len(self.nodes)}"
        texts = [(1, text) for text in inputs] + [(2, output or name), (3, name), (4, op)]
        fields: Fields = [(number, BYTES, text.encode()) for number, text in texts]
        fields += [(5, BYTES, _attribute(key, value)) for key, value in attributes.items()]
        self.nodes.append(join(fields))
        return output or name

    def cast(self, tensor: str, dtype: str, *, output: str = "") -> str:
        """Convert to another type."""
        return self.node("Cast", [tensor], output=output, to=NUMBERS[dtype])

    def constant(self, value: npt.ArrayLike, dtype: str = "float32") -> str:
        """Add a constant, once."""
        array = np.asarray(value, dtype)
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        key = (dtype, data, array.shape)
        if key not in self._constants:
            name = f"{self._part}constant{len(self._constants)}"
            self._constants[key] = name
            fields = [(1, VARINT, side) for side in array.shape]
            fields.append((2, VARINT, _TENSOR_TYPES[dtype]))
            self.weights.append(join([*fields, (8, BYTES, name.encode()), (9, BYTES, data)]))
        return self._constants[key]


def port(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    """Return a ValueInfoProto."""
    dims = [
        join([(1, VARINT, side) if isinstance(side, int) else (2, BYTES, side.encode())])
        for side in shape
    ]
    tensor = join(
        [(1, VARINT, NUMBERS[dtype]), (2, BYTES, join([(1, BYTES, dim) for dim in dims]))]
    )
    return join([(1, BYTES, name.encode()), (2, BYTES, join([(1, BYTES, tensor)]))])


def _attribute(name: str, value: int | float | str | Sequence[int]) -> bytes:
    head = (1, BYTES, name.encode())
    if isinstance(value, str):
        return join([head, (4, BYTES, value.encode()), (20, VARINT, _STRING)])
    if isinstance(value, int):
        return join([head, (3, VARINT, value), (20, VARINT, _INT)])
    if isinstance(value, float):
        return join([head, (2, FIXED32, struct.pack("<f", value)), (20, VARINT, _FLOAT)])
    return join([head, *((8, VARINT, each) for each in value), (20, VARINT, _INTS)])
