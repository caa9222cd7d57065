"""Mixed-precision INT8: quantize all eligible layers, then restore float for the costly ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from export.errors import GateError
from export.evaluation.parity import Parity
from export.evaluation.quality import Evaluator, problems
from export.graph.layers import PICTURE_CHANNELS, Flavour, conv_layers, quantizable
from export.graph.session import session_run
from export.protocol import Batch
from export.quantization.calibration import Calibration
from export.quantization.integer_io import reorder_for_row_copies, use_integer_io
from export.quantization.qdq import insert

log = logging.getLogger(__name__)

MAX_MEASURED = 40
"""Most layers that are measured one by one; each needs its own session."""
GROUPS_OF_DEEP = 8
"""Deeper networks are measured and restored to float in this many groups of neighboring layers, and
only if the gate fails: with RRDBNet's 345 layers, each measurement takes seconds."""
SENSITIVITY_CROPS, OF_DEEP = 4, 1


@dataclass(frozen=True)
class Tuning:
    """Result of QAT."""

    steps: int
    """Number of training steps."""
    validation_db_before: float | None
    """PSNR on the validation split of `--data` without QAT; None: the gate failed."""
    validation_db_after: float | None
    """PSNR on the validation split of `--data` with QAT; None: the gate failed."""
    used: bool
    """Whether the graph contains the tuned weights."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        rounded = [
            None if db is None else round(db, 4)
            for db in (self.validation_db_before, self.validation_db_after)
        ]
        return {
            "steps": self.steps,
            "validation_db_before": rounded[0],
            "validation_db_after": rounded[1],
            "used": self.used,
        }


@dataclass(frozen=True)
class Quantized:
    """An INT8 graph and its measurements."""

    model: onnx.ModelProto
    """The graph."""
    flavour: Flavour
    """Form of INT8."""
    parity: Parity
    """Difference from the float32 network."""
    losses_db: MappingProxyType[str, float]
    """Loss against the float32 network, by test set."""
    layers: tuple[str, ...]
    """Layers in INT8."""
    restored_to_float: tuple[str, ...]
    """Layers restored to float because the gate failed with them, the most sensitive first."""
    sensitivity_db: MappingProxyType[str, float]
    """By layer or group of layers: PSNR against the float32 network with only these in INT8; low
    means sensitive. Empty: a deep network that passed its gate."""
    tuning: Tuning | None = None
    """Result of QAT; None: not requested."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the report."""
        tuning = {} if self.tuning is None else {"qat": self.tuning.to_dict()}
        return {
            "layers": list(self.layers),
            "restored_to_float": list(self.restored_to_float),
            "losses_db": {name: round(loss, 4) for name, loss in self.losses_db.items()},
            "sensitivity_db": {n: round(v, 2) for n, v in self.sensitivity_db.items()},
            **tuning,
        }


def quantize(
    model: onnx.ModelProto,
    calibration: Calibration,
    flavour: Flavour,
    evaluator: Evaluator,
    base_db: dict[str, float],
) -> Quantized:
    """Insert Q/DQ; restore the most sensitive layers to float one by one until the gate passes.

    Args:
        model: the float graph: float32 for `cpu`, float16 for `gpu`.
        calibration: calibration of the same network.
        flavour: form of INT8.
        evaluator: measures parity and PSNR.
        base_db: PSNR of the float32 network by test set.

    Raises:
        GateError: the gate fails even with a single layer or group in INT8, or there is no layer to
            quantize.
    """
    names = [layer.name for layer in quantizable(conv_layers(model), flavour)]
    if not names:
        raise GateError(
            f"INT8 ({flavour}): none of the network's convolutions has constant weights and more "
            f"than {PICTURE_CHANNELS} input channels, and only these are quantized; export fp16 "
            "instead"
        )
    if flavour == "cpu":
        model = reorder_for_row_copies(model)
    groups = _groups(names)
    ranking: dict[str, float] = {}
    if len(groups) == len(names):
        ranking = _sensitivity(model, calibration, flavour, groups)
    restored_to_float: list[str] = []
    while True:
        quantized = insert(model, calibration, flavour, skip=set(restored_to_float))
        if flavour == "cpu":
            quantized = use_integer_io(quantized)
        run = session_run(quantized)
        parity = evaluator.parity(run)
        losses = {name: base_db[name] - db for name, db in evaluator.psnr(run).items()}
        wrong = problems(parity, evaluator.limits, losses, evaluator.max_loss_db(flavour))
        left = tuple(name for name in names if name not in restored_to_float)
        if not wrong:
            return Quantized(
                quantized,
                flavour,
                parity,
                MappingProxyType(losses),
                left,
                tuple(restored_to_float),
                MappingProxyType(ranking),
            )
        log.info("INT8 (%s): %s", flavour, "; ".join(wrong))
        ranking = ranking or _sensitivity(model, calibration, flavour, groups)
        worst = next(group for group in ranking if groups[group][0] in left)
        if groups[worst] == left:
            raise GateError(
                f"INT8 ({flavour}) fails its gate: {'; '.join(wrong)}; export fp16 instead"
            )
        log.info("INT8 (%s): %s is restored to float", flavour, worst)
        restored_to_float += groups[worst]


def _groups(names: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the units to measure and restore: single layers, or groups of neighboring layers."""
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
    """Return the PSNR with only one group in INT8, by group, the most sensitive first."""
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
