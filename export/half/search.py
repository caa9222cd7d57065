"""Search the nodes that must stay in float32 for a float16 graph to pass its gate.

First those whose values overflow on the measured pictures, then those whose rounding costs most: a
bisection, because rounding errors of different tensors add up almost independently.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import onnx

from export.errors import GateError
from export.graph.layers import PRODUCTS
from export.half.analysis import EXACT, LARGEST, Prepared
from export.half.conversion import converted
from export.half.rounding import Switched, Unit, peaks, units
from export.protocol import Batch

log = logging.getLogger(__name__)

MARGIN = 2.0
"""Other pictures may reach larger values than the measured ones, by this factor."""
_SQUARING = (
    "InstanceNormalization LayerNormalization GroupNormalization RMSNormalization "
    "LpNormalization MeanVarianceNormalization ReduceL2 ReduceSumSquare"
)
SQUARING = frozenset(_SQUARING.split())
"""Operators that square their input inside, in its own type."""
LESS = 4.0
"""Each attempt aims at an error smaller by this factor."""
ATTEMPTS = 6
MAX_RUNS = 240
"""Runs of one search."""
MAX_SHARE = 0.75
"""Share of nodes in float32 beyond which float16 is pointless."""

Gate = Callable[[onnx.ModelProto], str]
"""Checks a float16 graph; returns what fails, or nothing."""


@dataclass(frozen=True)
class Exceptions:
    """Nodes that stay in float32, and why."""

    nodes: dict[str, str] = field(default_factory=dict)
    """Operator by node name, in graph order."""
    of: int = 0
    """Number of nodes that float16 could apply to."""
    peak: float = 0.0
    """Largest absolute value that overflows float16 or comes close; 0: none does."""
    loses: int = 0
    """Number of nodes kept because their rounding costs too much, not because they overflow."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        return {
            "nodes": dict(self.nodes),
            "of": self.of,
            "peak": float(f"{self.peak:.4g}"),
            "loses": self.loses,
        }

    @property
    def summary(self) -> str:
        """How many nodes stay in float32, and their operators."""
        kinds = Counter(self.nodes.values())
        named = ", ".join(f"{kind} x{count}" for kind, count in kinds.most_common())
        return f"{len(self.nodes)} of {self.of} nodes in float32: {named}"

    def __str__(self) -> str:
        over = len(self.nodes) - self.loses
        reasons = [f"{over} reach {self.peak:.2g}, float16 ends at 65504"] if over else []
        reasons += [f"{self.loses} lose too much"] if self.loses else []
        return f"{self.summary} ({'; '.join(reasons)})" if self.nodes else "no node in float32"


def overflowing(ready: Prepared, pictures: Sequence[Batch]) -> tuple[set[str], float]:
    """Return the nodes whose values overflow float16 on the pictures, and the largest value.

    A tensor too large for float16 keeps its maker and its readers in float32.
    """
    found: set[str] = set()
    largest = 0.0
    for name, peak in peaks(ready, pictures).items():
        squared = [n for n in ready.readers.get(name, ()) if n.op_type in SQUARING]
        if peak * MARGIN > LARGEST:
            touched = _around(ready, name)
        elif peak**2 * MARGIN > LARGEST:
            touched, peak = {n.name for n in squared} - ready.free, peak**2
        else:
            continue
        if touched:
            largest = max(largest, peak)
            found |= touched
    return found, largest


def search(
    ready: Prepared, pictures: Sequence[Batch], gate: Gate, over: set[str], peak: float
) -> tuple[onnx.ModelProto, Exceptions]:
    """Return a float16 graph that passes the gate with as few nodes in float32 as possible.

    Args:
        ready: the float32 graph.
        pictures: (N, H, W, C) uint8, for measuring what rounding costs.
        gate: the gate.
        over: result of `overflowing`.
        peak: its largest value.

    Raises:
        GateError: it fails unless most nodes stay in float32.
    """
    kept, total = set(over), len(ready.halves())
    losses: _Losses | None = None
    attempts = 0
    while wrong := gate(converted(ready, kept := _with_shared_weights(ready, kept))):
        losses = losses or _Losses(ready, pictures, kept)
        if attempts == ATTEMPTS or losses.is_exhausted or len(kept) > MAX_SHARE * total:
            raise GateError(
                f"{wrong}; {len(kept)} of {total} nodes in float32 do not help; export with "
                "--precision fp32"
            )
        log.info("fp16: %s; searching the nodes that lose most", wrong)
        kept |= losses.costliest(losses.error / LESS)
        attempts += 1
    nodes = {n.name: n.op_type for n in ready.model.graph.node if n.name in kept}
    return converted(ready, kept), Exceptions(nodes, total, peak, len(kept - over))


def _with_shared_weights(ready: Prepared, kept: set[str]) -> set[str]:
    """Add the nodes that share weights with a kept node, so that weights exist in one type."""
    shared = {
        weight
        for name in kept
        if (node := ready.nodes[name]).op_type in PRODUCTS
        for weight in node.input
        if weight in ready.constants
    }
    readers = {node.name for weight in shared for node in ready.readers[weight]}
    return kept | (readers - ready.free)


class _Losses:
    """What the rounding of each tensor costs, measured in ever smaller groups."""

    def __init__(self, ready: Prepared, pictures: Sequence[Batch], kept: set[str]) -> None:
        self._ready = ready
        self._units = units(ready)
        self._switched = Switched(ready, self._units, pictures)
        self._runs = 0
        self._selected: set[str] = set(kept)
        # the largest error first; groups of neighbors
        self._heap: list[tuple[float, int, tuple[int, ...]]] = []
        self._push(tuple(range(len(self._units))))

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to measure."""
        return not self._heap or self._runs >= MAX_RUNS

    @property
    def error(self) -> float:
        """What rounding costs: the sum over the tensors in float16, squared levels."""
        return -sum(error for error, *_ in self._heap)

    def costliest(self, target: float) -> set[str]:
        """Return the nodes around the costliest tensors; the rest costs at most the target.

        Groups whose error is infinite are divided until finite ones are left.
        """
        while not self.is_exhausted and (self.error > target or self.error == inf):
            _, _, group = heapq.heappop(self._heap)
            if len(group) == 1:
                self._selected |= _around(self._ready, self._units[group[0]].name)
            else:
                middle = len(group) // 2
                self._push(group[:middle])
                self._push(group[middle:])
        return set(self._selected)

    def _push(self, group: tuple[int, ...]) -> None:
        active = tuple(index for index in group if self._is_rounded(self._units[index]))
        if active:
            self._runs += 1
            heapq.heappush(self._heap, (-self._switched.error(active), active[0], active))

    def _is_rounded(self, unit: Unit) -> bool:
        """Return whether a tensor is still stored in float16."""
        return not _around(self._ready, unit.name) <= self._selected


def _around(ready: Prepared, name: str) -> set[str]:
    """Return the nodes that must be float32 for a tensor to be: its maker and its readers.

    Readers that only pass values on take their own readers with them.
    """
    maker = ready.makers.get(name)
    found = {maker.name} if maker is not None else set()
    waiting = [name]
    while waiting:
        for node in ready.readers.get(waiting.pop(), ()):
            if node.name not in found:
                found.add(node.name)
                if node.op_type in EXACT and node.name not in ready.free:
                    waiting += node.output
    return found - ready.free
