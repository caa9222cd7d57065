"""Check an ONNX graph's size before a library opens it.

Libraries need seconds to minutes for a file of a few kilobytes: OpenVINO's time grows with the
square of the nodes and doubles with each `If` inside of another, and ONNX Runtime expands functions
that call functions. So everything that costs them time is counted first. Weights are skipped, not
read. Field numbers: onnx.proto of https://github.com/onnx/onnx.
"""

from __future__ import annotations

import math
from collections import Counter

from srsdk.formats.protobuf import BYTES, VARINT, Cursor, Malformed, Oversized

MAX_NODES = 40_000
"""Nodes, those of subgraphs and called functions included. DAT, as torch 2.13 exports it with
dynamic sizes, has 19,304 (OpenVINO opens it in 9 s of processor time, ONNX Runtime in 3 s), SwinIR
7,065."""
MAX_COMPUTING = 8_000
"""Nodes that compute pixels rather than shapes. DAT has 2,446; 4,000 convolutions in a row
take OpenVINO 11 s, and twice as many four times as long."""
MAX_CHAIN = 512
"""Elementwise nodes in a row, which OpenVINO fuses in time that grows with their cube. The
sums of residual blocks count as well: 211 in RCAN."""
MAX_TENSORS = 20_000
"""Weights and other constants."""
MAX_PORTS, MAX_OUTPUTS = 50_000, 64
"""Inputs (files of old exporters list weights among them) and described values; outputs."""
MAX_OPSETS = 64
MAX_FUNCTIONS = 2_000
MAX_CALL_DEPTH = 32
"""Functions that call functions."""
MAX_DEPTH, MAX_SUBGRAPHS = 8, 200
"""Subgraphs (of `If`, `Loop`, `Scan`) within each other, and in all."""
MAX_RANK = 32
MAX_ELEMENTS = 1 << 31
"""Values of one tensor; a sparse one of any size takes a few bytes of the file."""
MAX_NAME_BYTES = 1 << 14
MAX_STRUCTURE_BYTES = 64 << 20
"""Bytes of a file that are not weights."""

_GRAPH, _OPSETS, _FUNCTIONS = 7, 8, 25
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15
_PORTS, _INPUTS, _OUTPUTS = (11, 13), 11, 12
_INPUT, _OUTPUT, _NODE_NAME, _OP_TYPE, _ATTRIBUTE, _DOMAIN = 1, 2, 3, 4, 5, 7
_PORT_NAME = 1
_TENSORS, _SUBGRAPHS, _SPARSES = (5, 10), (6, 11), (22, 23)
_DIMS, _DATA, _EXTERNAL = 1, (4, 5, 7, 9, 10, 11), 13
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN = 1, 7, 10
_SHAPES = frozenset(
    b"Cast CastLike Concat Constant ConstantOfShape Expand Flatten Gather Identity Reshape Shape "
    b"Size Slice Split Squeeze Transpose Unsqueeze".split()
)
_ELEMENTWISE = frozenset(
    b"Abs Acos Acosh Add And Asin Asinh Atan Atanh BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast "
    b"Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid "
    b"HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg "
    b"Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign "
    b"Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor".split()
)


class Limits:
    """Count what a model's graphs and functions hold, while a cursor moves through them.

    Every method raises `Oversized` as soon as a limit is passed, and `Malformed` for bytes that are
    no ONNX model.
    """

    def __init__(self, cursor: Cursor) -> None:
        self.locations: set[str] = set()
        """Files with external data, as the model names them."""
        self._cursor = cursor
        self._nodes: Counter[bytes] = Counter()
        self._functions: dict[bytes, Counter[bytes]] = {}
        self._counts: Counter[str] = Counter()
        self._data_bytes = 0

    def field(self, number: int, length: int) -> None:
        """Read a field of the model itself, whose payload begins at the cursor."""
        end = self._cursor.at + length
        if number == _GRAPH:
            self._graph(end, self._nodes, 0)
        elif number == _FUNCTIONS:
            self._count("functions", MAX_FUNCTIONS)
            self._function(end)
        elif number == _OPSETS:
            self._count("operator sets", MAX_OPSETS)

    def finish(self) -> None:
        """Check what is known only at the end of the file."""
        structure = self._cursor.size - self._data_bytes
        if structure > MAX_STRUCTURE_BYTES:
            raise Oversized(
                f"it has {structure:,} bytes besides its weights, at most {MAX_STRUCTURE_BYTES:,}"
            )
        nodes, computing = self._expanded(self._nodes, {}, 0)
        if nodes > MAX_NODES:
            raise Oversized(f"its functions expand to {nodes:,} nodes, at most {MAX_NODES:,}")
        if computing > MAX_COMPUTING:
            raise Oversized(f"it computes {computing:,} layers, at most {MAX_COMPUTING:,}")

    def _graph(self, end: int, nodes: Counter[bytes], depth: int) -> None:
        cursor = self._cursor
        chains: dict[bytes, int] = {}
        for number, wire, length in cursor.fields(end):
            if wire != BYTES:
                continue
            stop = cursor.at + length
            if number == _NODE:
                self._node(stop, nodes, chains, depth)
            elif number == _INITIALIZER:
                self._tensor(stop)
            elif number == _SPARSE:
                self._sparse(stop)
            elif number in _PORTS:
                self._count("inputs and described values", MAX_PORTS)
                if number == _INPUTS:
                    self._port(stop)
            elif number == _OUTPUTS and depth == 0:
                self._count("outputs", MAX_OUTPUTS)
                self._port(stop)

    def _port(self, end: int) -> None:
        """Read the name of an input or output, which the libraries' Python bindings decode."""
        for number, wire, length in self._cursor.fields(end):
            if number == _PORT_NAME and wire == BYTES and not _is_utf8(self._name(length)):
                raise Malformed("the name of an input or output is not UTF-8")

    def _node(self, end: int, nodes: Counter[bytes], chains: dict[bytes, int], depth: int) -> None:
        self._count("nodes", MAX_NODES)
        cursor = self._cursor
        longest, outputs, kind, domain = 0, list[bytes](), b"", b""
        for number, wire, length in cursor.fields(end):
            if wire != BYTES:
                continue
            if number == _ATTRIBUTE:
                self._attribute(cursor.at + length, nodes, depth)
            elif number == _INPUT:
                longest = max(longest, chains.get(self._name(length), 0))
            elif number == _OUTPUT:
                outputs.append(self._name(length))
            elif number == _OP_TYPE:
                kind = self._name(length)
            elif number == _DOMAIN:
                domain = self._name(length)
            elif number == _NODE_NAME and length > MAX_NAME_BYTES:
                self._name(length)
        nodes[domain + b"\0" + kind] += 1
        if kind in _ELEMENTWISE:
            if longest >= MAX_CHAIN:
                raise Oversized(f"it has more than {MAX_CHAIN} elementwise nodes in a row")
            chains.update(dict.fromkeys(outputs, longest + 1))

    def _attribute(self, end: int, nodes: Counter[bytes], depth: int) -> None:
        cursor = self._cursor
        for number, wire, length in cursor.fields(end):
            if wire != BYTES:
                continue
            stop = cursor.at + length
            if number in _TENSORS:
                self._tensor(stop)
            elif number in _SPARSES:
                self._sparse(stop)
            elif number in _SUBGRAPHS:
                if depth == MAX_DEPTH:
                    raise Oversized(f"its subgraphs are nested more than {MAX_DEPTH} deep")
                self._count("subgraphs", MAX_SUBGRAPHS)
                self._graph(stop, nodes, depth + 1)

    def _tensor(self, end: int) -> None:
        self._count("weights and constants", MAX_TENSORS)
        cursor, dims = self._cursor, list[int]()
        for number, wire, value in cursor.fields(end):
            if number == _DIMS and wire == VARINT:
                dims.append(value)
            elif number == _DIMS and wire == BYTES:
                dims += self._packed(cursor.at + value)
            elif number in _DATA and wire == BYTES:
                self._data_bytes += value
            elif number == _EXTERNAL and wire == BYTES:
                self._external(cursor.at + value)
        self._check_dims(dims)

    def _sparse(self, end: int) -> None:
        """Read a sparse tensor: two tensors and the dims of the dense one."""
        cursor, dims = self._cursor, list[int]()
        for number, wire, value in cursor.fields(end):
            if number in (1, 2) and wire == BYTES:
                self._tensor(cursor.at + value)
            elif number == 3 and wire == VARINT:
                dims.append(value)
            elif number == 3 and wire == BYTES:
                dims += self._packed(cursor.at + value)
        self._check_dims(dims)

    def _packed(self, end: int) -> list[int]:
        found, cursor = list[int](), self._cursor
        while cursor.at < end and len(found) <= MAX_RANK:
            found.append(cursor.number())
        return found

    def _check_dims(self, dims: list[int]) -> None:
        if len(dims) > MAX_RANK:
            raise Oversized(f"a tensor has more than {MAX_RANK} dimensions")
        if math.prod(dims) > MAX_ELEMENTS:
            raise Oversized(f"a tensor has {math.prod(dims):,} values, at most {MAX_ELEMENTS:,}")

    def _external(self, end: int) -> None:
        """Read a key and a value; keep the value of `location`."""
        cursor, texts = self._cursor, {1: b"", 2: b""}
        for number, wire, length in cursor.fields(end):
            if wire == BYTES and number in texts:
                texts[number] = self._name(length)
        if texts[1] == b"location":
            self.locations.add(texts[2].decode("utf-8", "surrogateescape"))

    def _function(self, end: int) -> None:
        cursor, chains, nodes = self._cursor, dict[bytes, int](), Counter[bytes]()
        name = domain = b""
        for number, wire, length in cursor.fields(end):
            if wire != BYTES:
                continue
            if number == _FUNCTION_NODE:
                self._node(cursor.at + length, nodes, chains, 0)
            elif number == _FUNCTION_NAME:
                name = self._name(length)
            elif number == _FUNCTION_DOMAIN:
                domain = self._name(length)
        self._functions[domain + b"\0" + name] = nodes

    def _expanded(
        self, nodes: Counter[bytes], known: dict[bytes, tuple[int, int]], depth: int
    ) -> tuple[int, int]:
        """Return how many nodes there are, and how many compute, with each call expanded."""
        if depth > MAX_CALL_DEPTH:
            raise Oversized(f"its functions call each other more than {MAX_CALL_DEPTH} deep")
        every = computing = 0
        for kind, times in nodes.items():
            if kind in self._functions and kind not in known:
                known[kind] = self._expanded(self._functions[kind], known, depth + 1)
            each = known.get(kind, (1, kind.rpartition(b"\0")[2] not in _SHAPES))
            every, computing = every + times * each[0], computing + times * each[1]
        return every, computing

    def _name(self, length: int) -> bytes:
        if length > MAX_NAME_BYTES:
            raise Oversized(f"a name has {length:,} bytes, at most {MAX_NAME_BYTES:,}")
        return self._cursor.text(length)

    def _count(self, what: str, limit: int) -> None:
        self._counts[what] += 1
        if self._counts[what] > limit:
            raise Oversized(f"it has more than {limit:,} {what}")


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
