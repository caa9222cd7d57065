"""INT8 that holds its gate: quantise everything that may be, then give back what costs too much."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from export.calibrate import Calibration
from export.ends import byte_ends, in_rows
from export.judge import Judge, problems
from export.layers import Flavour, conv_layers, quantisable
from export.parity import Batch, GateError, Parity
from export.quantise import insert
from export.sources import session_run

log = logging.getLogger(__name__)

MAX_MEASURED = 40
"""Sensitivity takes a session for each layer."""
GROUPS_OF_DEEP = 8
"""Networks of more layers than that are measured, and given back, by so many groups of neighbours,
and only where the gate does not hold: of RRDBNet's 345 layers each look takes seconds."""
SENSITIVITY_CROPS, OF_DEEP = 4, 1


@dataclass(frozen=True)
class Tuning:
    """What QAT changed."""

    steps: int
    """Taken."""
    held_out_db_before: float | None
    """PSNR on the pictures of `--data` that were held out, without it; None: the gate did not
    hold."""
    held_out_db_after: float | None
    """The same with it."""
    used: bool
    """Whether the tuned weights are in the graph."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        rounded = [
            None if db is None else round(db, 4)
            for db in (self.held_out_db_before, self.held_out_db_after)
        ]
        return {
            "steps": self.steps,
            "held_out_db_before": rounded[0],
            "held_out_db_after": rounded[1],
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
    """By layer, or group of layers: PSNR against the float32 network with only this in INT8; low:
    sensitive. Empty: a deep network that held its gate."""
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
        GateError: it holds with no layer left.
    """
    names = [layer.name for layer in quantisable(conv_layers(model), flavour)]
    if flavour == "cpu":
        model = in_rows(model)
    groups = _groups(names)
    ranking: dict[str, float] = {}
    if len(groups) == len(names):
        ranking = _sensitivity(model, calibration, flavour, groups)
    given_back: list[str] = []
    while True:
        quantised = insert(model, calibration, flavour, skip=set(given_back))
        if flavour == "cpu":
            quantised = byte_ends(quantised)
        run = session_run(quantised)
        parity = judge.parity(run)
        losses = {name: base_db[name] - db for name, db in judge.psnr(run).items()}
        wrong = problems(parity, judge.limits, losses, judge.max_loss_db(flavour))
        left = tuple(name for name in names if name not in given_back)
        if not wrong:
            return Quantised(
                quantised,
                flavour,
                parity,
                MappingProxyType(losses),
                left,
                tuple(given_back),
                MappingProxyType(ranking),
            )
        log.info("INT8 (%s): %s", flavour, "; ".join(wrong))
        ranking = ranking or _sensitivity(model, calibration, flavour, groups)
        worst = next(group for group in ranking if groups[group][0] in left)
        if groups[worst] == left:
            raise GateError(
                f"INT8 ({flavour}) does not hold its gate: {'; '.join(wrong)}; export fp16 only"
            )
        log.info("INT8 (%s): %s goes back to float", flavour, worst)
        given_back += groups[worst]


def _groups(names: list[str]) -> dict[str, tuple[str, ...]]:
    """Return what is measured and given back at once: single layers, or runs of neighbours."""
    if len(names) <= MAX_MEASURED:
        return {name: (name,) for name in names}
    runs = [tuple(map(str, run)) for run in np.array_split(names, GROUPS_OF_DEEP)]
    return {f"{run[0]} .. {run[-1]}": run for run in runs}


def _sensitivity(
    model: onnx.ModelProto,
    calibration: Calibration,
    flavour: Flavour,
    groups: dict[str, tuple[str, ...]],
) -> dict[str, float]:
    """Return, most sensitive first, what each group alone does to the output."""
    is_deep = any(len(run) > 1 for run in groups.values())
    count = OF_DEEP if is_deep else SENSITIVITY_CROPS
    step = max(1, len(calibration.crops.pixels) // count)
    crops = [crop[None] for crop in calibration.crops.pixels[::step]]
    wanted = _outputs(model, crops)
    every = {name for run in groups.values() for name in run}
    found = {}
    for group, run in groups.items():
        alone = insert(model, calibration, flavour, skip=every - set(run))
        pairs = zip(_outputs(alone, crops), wanted, strict=True)
        errors = [np.mean((got.astype(np.float64) - want) ** 2) for got, want in pairs]
        found[group] = 10 * float(np.log10(255**2 / max(float(np.mean(errors)), 1e-6)))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _outputs(model: onnx.ModelProto, crops: list[Batch]) -> list[Batch]:
    run = session_run(model)
    return [run(crop) for crop in crops]
