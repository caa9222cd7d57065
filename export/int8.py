"""INT8 that holds its gate: quantise everything that may be, then give back what costs too much."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from export.calibrate import Calibration
from export.judge import Judge, problems
from export.layers import body, conv_layers
from export.parity import Batch, GateError, Parity
from export.quantise import Flavour, insert
from export.sources import session_run

log = logging.getLogger(__name__)

MAX_LAYERS_MEASURED = 40
"""Sensitivity takes a session for each layer; beyond this it, and the fallback, are left out."""
SENSITIVITY_CROPS = 4


@dataclass(frozen=True)
class Tuning:
    """What QAT changed."""

    steps: int
    """Taken."""
    loss_db_before: float | None
    """Mean over the test sets, without QAT; None: the gate did not hold."""
    loss_db_after: float | None
    """The same with it."""
    used: bool
    """Whether the tuned weights are in the graph."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        rounded = [
            None if loss is None else round(loss, 4)
            for loss in (self.loss_db_before, self.loss_db_after)
        ]
        return {
            "steps": self.steps,
            "loss_db_before": rounded[0],
            "loss_db_after": rounded[1],
            "used": self.used,
        }


@dataclass(frozen=True)
class Quantised:
    """An INT8 graph and how it came about."""

    model: onnx.ModelProto
    """The graph."""
    flavour: Flavour
    """Which form."""
    parity: Parity
    """Against the float32 network."""
    losses_db: MappingProxyType[str, float]
    """Against the float32 network, by test set."""
    layers: tuple[str, ...]
    """In INT8."""
    given_back: tuple[str, ...]
    """Left in float because the gate did not hold with them, the most sensitive first."""
    sensitivity_db: MappingProxyType[str, float]
    """By layer: PSNR against the float32 network with only this layer in INT8; low: sensitive."""
    tuning: Tuning | None = None
    """By QAT; None: none was asked for."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        tuning = {} if self.tuning is None else {"qat": self.tuning.to_dict()}
        return {
            "layers": list(self.layers),
            "given_back": list(self.given_back),
            "losses_db": {name: round(loss, 4) for name, loss in self.losses_db.items()},
            "sensitivity_db": {n: round(v, 2) for n, v in self.sensitivity_db.items()},
            **tuning,
        }


def quantise(
    model: onnx.ModelProto,
    calibration: Calibration,
    flavour: Flavour,
    judge: Judge,
    base_db: dict[str, float],
) -> Quantised:
    """Insert Q/DQ; give the most sensitive layers back, one by one, until the gate holds.

    Args:
        model: the float graph: float32 for `cpu`, float16 for `gpu`.
        calibration: of the same network.
        flavour: which form.
        judge: who says what is lost.
        base_db: PSNR of the float32 network by test set.

    Raises:
        GateError: it holds with no layer left, or sensitivity cannot be measured.
    """
    names = [layer.name for layer in body(conv_layers(model))]
    ranking = _sensitivity(model, calibration, flavour, names)
    given_back: list[str] = []
    while True:
        quantised = insert(model, calibration, flavour, skip=set(given_back))
        run = session_run(quantised)
        parity = judge.parity(run)
        losses = {name: base_db[name] - db for name, db in judge.psnr(run).items()}
        wrong = problems(parity, judge.limits, losses, judge.max_loss_db(flavour))
        left = [name for name in names if name not in given_back]
        if not wrong:
            return Quantised(
                quantised,
                flavour,
                parity,
                MappingProxyType(losses),
                tuple(left),
                tuple(given_back),
                MappingProxyType(ranking),
            )
        worst = next((name for name in ranking if name not in given_back), None)
        if worst is None or len(left) == 1:
            raise GateError(
                f"INT8 ({flavour}) does not hold its gate: {'; '.join(wrong)}; export fp16 only"
            )
        log.info("INT8 (%s): %s; %s goes back to float", flavour, "; ".join(wrong), worst)
        given_back.append(worst)


def _sensitivity(
    model: onnx.ModelProto, calibration: Calibration, flavour: Flavour, names: list[str]
) -> dict[str, float]:
    """Return, most sensitive first, what each layer alone does to the output."""
    if len(names) > MAX_LAYERS_MEASURED:
        return {}
    step = max(1, len(calibration.crops.pixels) // SENSITIVITY_CROPS)
    crops = [crop[None] for crop in calibration.crops.pixels[::step]]
    wanted = _outputs(model, crops)
    found = {}
    for name in names:
        alone = insert(model, calibration, flavour, skip=set(names) - {name})
        pairs = zip(_outputs(alone, crops), wanted, strict=True)
        errors = [np.mean((got.astype(np.float64) - want) ** 2) for got, want in pairs]
        found[name] = 10 * float(np.log10(255**2 / max(float(np.mean(errors)), 1e-6)))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _outputs(model: onnx.ModelProto, crops: list[Batch]) -> list[Batch]:
    run = session_run(model)
    return [run(crop) for crop in crops]
