"""Choose the better of two INT8 graphs, with and without quantization-aware training."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx

from export.errors import GateError
from export.evaluation.quality import Evaluator
from export.graph.layers import Flavour
from export.graph.session import session_run
from export.quantization.calibration import Calibration
from export.quantization.mixed_precision import Quantized, Tuning, quantize


@dataclasses.dataclass(frozen=True)
class Criteria:
    """Evaluators for the gate and for the choice, on different pictures."""

    evaluator: Evaluator
    """Gate, on the test sets whose scores go into the manifest."""
    base_db: dict[str, float]
    """PSNR of the float32 network by test set."""
    validation: Evaluator
    """Choice, on a validation split used neither for tuning nor for the manifest."""


def quantize_best(
    plain: onnx.ModelProto,
    better: onnx.ModelProto,
    steps: int,
    calibration: Calibration,
    flavour: Flavour,
    criteria: Criteria,
) -> Quantized:
    """Quantize a graph before and after QAT; return the better one.

    The tuned graph is better if it has a higher PSNR on the validation split and no fewer layers in
    INT8, or if only it passes the gate.

    Args:
        plain: the float graph without QAT.
        better: the float graph after QAT.
        steps: number of QAT steps, for the report.
        calibration: calibration of the plain graph.
        flavour: form of INT8.
        criteria: evaluators for the gate and for the choice.

    Raises:
        GateError: neither graph passes the gate.
    """
    before = _quantize_or_error(plain, calibration, flavour, criteria)
    # QAT simulates rounding to the nearest, so the tuned graph must use it too
    after = _quantize_or_error(
        better, dataclasses.replace(calibration, moments={}), flavour, criteria
    )
    if isinstance(after, GateError) and isinstance(before, GateError):
        raise before
    was, now = (None if isinstance(q, GateError) else _psnr(q, criteria) for q in (before, after))
    if isinstance(after, GateError):
        best, used = before, False
    elif isinstance(before, GateError) or was is None or now is None:
        best, used = after, True
    else:
        used = now > was and len(after.layers) >= len(before.layers)
        best = after if used else before
    assert isinstance(best, Quantized)
    return dataclasses.replace(best, tuning=Tuning(steps, was, now, used))


def _quantize_or_error(
    model: onnx.ModelProto, calibration: Calibration, flavour: Flavour, criteria: Criteria
) -> Quantized | GateError:
    try:
        return quantize(model, calibration, flavour, criteria.evaluator, criteria.base_db)
    except GateError as error:
        return error


def _psnr(quantized: Quantized, criteria: Criteria) -> float:
    return float(np.mean(list(criteria.validation.psnr(session_run(quantized.model)).values())))
