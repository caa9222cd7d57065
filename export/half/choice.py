"""Make the float16 graph of a source: its own conversion, or one with nodes left in float32."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import onnx

from export.errors import ExportError, GateError
from export.evaluation.parity import Parity, check
from export.evaluation.quality import Evaluator
from export.graph.session import session_run
from export.half.analysis import prepared
from export.half.rounding import stored
from export.half.search import Exceptions, overflowing, search
from export.protocol import Batch, Source

log = logging.getLogger(__name__)

MAX_PICTURE_PX = 64 * 64
"""Pictures of the search are at most this large, where there are such."""


@dataclass(frozen=True)
class HalfGraph:
    """A float16 graph that passed its gate."""

    model: onnx.ModelProto
    """The graph."""
    parity: Parity
    """Difference from the float32 network, with results rounded as a GPU stores them."""
    exceptions: Exceptions
    """Nodes that stay in float32."""
    because: str = ""
    """Why the source's own conversion was not used; empty: it was."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        return {"float32": self.exceptions.to_dict(), "because": self.because}


def half_graph(
    source: Source, full: onnx.ModelProto, boundary: str, evaluator: Evaluator
) -> HalfGraph:
    """Return the source's own float16 graph if it passes its gate; else one with exceptions.

    The gate holds in ONNX Runtime, which computes float16 graphs in float32, and in a simulation of
    a GPU, which stores every result in float16.

    Args:
        source: the network.
        full: its float32 graph.
        boundary: `uint8` or `float32`, that of `full`.
        evaluator: measures parity.

    Raises:
        GateError: the gate fails unless most nodes stay in float32.
        ExportError: the float32 graph cannot be converted.
    """
    ready = prepared(full)
    pictures = _searched(evaluator)
    over, peak = overflowing(ready, pictures)
    total = len(ready.halves())
    wrong = f"{len(over)} of {total} nodes reach values up to {peak:.3g}" if over else ""
    if not wrong:
        try:
            plain = source.graph("fp16", boundary)
        except ExportError as error:
            wrong = str(error)
        else:
            wrong, parity = _checked(plain, evaluator), evaluator.parity(source.half)
            wrong = wrong or _failure(parity)
            if not wrong:
                return HalfGraph(plain, parity, Exceptions(of=total))
    log.info("fp16: %s", wrong)
    model, exceptions = search(ready, pictures, lambda m: _checked(m, evaluator), over, peak)
    return HalfGraph(model, evaluator.parity(session_run(stored(model))), exceptions, wrong)


def _searched(evaluator: Evaluator) -> list[Batch]:
    """Return the pictures of the search: single small ones, real ones first, and the patches."""
    singles = [p for p in reversed(evaluator.pictures) if len(p) == 1]
    small = [p for p in singles if p.shape[1] * p.shape[2] <= MAX_PICTURE_PX]
    return [*(small or singles)[:3], *evaluator.patches]


def _checked(model: onnx.ModelProto, evaluator: Evaluator) -> str:
    """Return what a float16 graph fails in ONNX Runtime or as a GPU computes it; empty: nothing."""
    for run, where in ((session_run(model), "in ONNX Runtime"), (None, "on a GPU (simulated)")):
        wrong = _failure(evaluator.parity(run or session_run(stored(model))), where)
        if wrong:
            return wrong
    return ""


def _failure(parity: Parity, where: str = "") -> str:
    try:
        check(parity, "fp16", f"the float16 graph {where}".strip())
    except GateError as error:
        return str(error)
    return ""
