"""Of an INT8 graph with and one without tuning, the one that is worth more."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx

from export.calibrate import Calibration
from export.int8 import Quantised, Tuning, quantise
from export.judge import Judge
from export.layers import Flavour
from export.parity import GateError
from export.sources import session_run


@dataclasses.dataclass(frozen=True)
class Referee:
    """Who gates, and who chooses: by different pictures."""

    judge: Judge
    """By the test sets, whose figures go into the manifest."""
    base_db: dict[str, float]
    """PSNR of the float32 network by test set."""
    held_out: Judge
    """By pictures that nothing was tuned on and nothing is reported of."""


def quantise_better(
    plain: onnx.ModelProto,
    better: onnx.ModelProto,
    steps: int,
    calibration: Calibration,
    flavour: Flavour,
    referee: Referee,
) -> Quantised:
    """Quantise a graph before and after its tuning; return the one that is worth more.

    The tuned one wins if it has the higher PSNR on pictures held out, and gives no more layers back
    to float; or if only it holds the gate.

    Args:
        plain: the float graph without tuning.
        better: the same after it.
        steps: how many that took, for the report.
        calibration: of the plain one.
        flavour: which form.
        referee: who says what is lost.

    Raises:
        GateError: neither holds the gate.
    """
    before = _held(plain, calibration, flavour, referee)
    # what was tuned was tuned to live with weights that are rounded to the nearest
    after = _held(better, dataclasses.replace(calibration, moments={}), flavour, referee)
    if isinstance(after, GateError) and isinstance(before, GateError):
        raise before
    was, now = (None if isinstance(q, GateError) else _psnr(q, referee) for q in (before, after))
    if isinstance(after, GateError):
        best, used = before, False
    elif isinstance(before, GateError) or was is None or now is None:
        best, used = after, True
    else:
        used = now > was and len(after.layers) >= len(before.layers)
        best = after if used else before
    assert isinstance(best, Quantised)
    return dataclasses.replace(best, tuning=Tuning(steps, was, now, used))


def _held(
    model: onnx.ModelProto, calibration: Calibration, flavour: Flavour, referee: Referee
) -> Quantised | GateError:
    try:
        return quantise(model, calibration, flavour, referee.judge, referee.base_db)
    except GateError as error:
        return error


def _psnr(quantised: Quantised, referee: Referee) -> float:
    return float(np.mean(list(referee.held_out.psnr(session_run(quantised.model)).values())))
