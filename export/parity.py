"""The gate: the file must compute what the network computes."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from export.graph import INPUT
from export.onnx_file import ExportError

SHAPES = ((1, 64, 64, 3), (1, 37, 53, 3), (3, 24, 40, 3))
MAX_LSB = 1
MAX_FRACTION = 1e-4


@dataclass(frozen=True)
class Parity:
    """How far an ONNX file's uint8 output is from the network's."""

    max_lsb: int
    """Largest difference, in levels of 255."""
    fraction: float
    """Share of samples that differ at all."""
    psnr_db: float | None
    """PSNR of one against the other, dB; None where they are equal."""


def gate(model: onnx.ModelProto, graph: nn.Module, *, seed: int = 0) -> Parity:
    """Compare ONNX Runtime with PyTorch at three shapes.

    Raises:
        ExportError: more than 1 LSB anywhere, or any difference in more than 0.01 % of samples.
    """
    parity = measure(model, graph, seed=seed)
    if parity.max_lsb > MAX_LSB or parity.fraction > MAX_FRACTION:
        raise ExportError(
            f"parity: ONNX Runtime and PyTorch differ by up to {parity.max_lsb} LSB on "
            f"{parity.fraction:.4%} of samples; allowed: {MAX_LSB} LSB on {MAX_FRACTION:.2%}"
        )
    return parity


def measure(model: onnx.ModelProto, graph: nn.Module, *, seed: int = 0) -> Parity:
    """Measure the difference on noise and on smooth pictures."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    differences = []
    for index, shape in enumerate(SHAPES):
        image = _picture(shape, seed + index)
        (got,) = session.run(None, {INPUT: image})
        with torch.no_grad():
            expected = graph(torch.from_numpy(image)).numpy()
        if got.shape != expected.shape:
            raise ExportError(f"parity: ONNX Runtime gives {got.shape}, PyTorch {expected.shape}")
        differences.append(np.abs(got.astype(np.int16) - expected).ravel())
    difference = np.concatenate(differences)
    mean_square = float(np.mean(difference.astype(np.float64) ** 2))
    return Parity(
        int(difference.max()),
        float(np.mean(difference > 0)),
        10 * float(np.log10(255**2 / mean_square)) if mean_square else None,
    )


def _picture(shape: tuple[int, int, int, int], seed: int) -> npt.NDArray[np.uint8]:
    """Noise below a smooth ramp: flat parts, dark and bright ends, and every frequency."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, shape[2])[None, None, :, None] * np.ones(shape)
    noise = random.normal(0, 40, shape) * (np.arange(shape[1]) > shape[1] // 3)[None, :, None, None]
    return np.clip(ramp + noise, 0, 255).astype(np.uint8)
