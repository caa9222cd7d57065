"""GPTQ weight rounding: minimize the error of a layer's output instead of each weight's error.

Weights are rounded one after another, and the remaining weights compensate the error of each one,
as far as their inputs are correlated; neighboring pixels are, and so are channels (Frantar et al.
2022, "GPTQ", arXiv:2210.17323, after Hassibi and Stork 1992, "Optimal Brain Surgeon"). The bias
comes last and absorbs the rest, so that no mean shifts.

Loss in dB with all convolutions in INT8 for CPUs, on Set5 and Set14, first with rounding to the
nearest, then with this: gan_x4 0.021 and 0.023, 0.010 and 0.012; gan_x2 0.024 and 0.011, 0.025 and
0.006.

For CPUs the weights also stay within the bound of `saturation`: a weight that its neighbor limits
passes on its error like any other, and each output channel uses the step of `STEPS` with the least
error in the layer's output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.graph.layers import Layer, weights_of
from export.graph.session import open_session
from export.quantization.saturation import layout_of, neighbors, room
from training.data.resize import Picture

Moments = Mapping[str, npt.NDArray[np.float64]]
"""By layer name, (k + 1, k + 1): means of products of the inputs of one output pixel, in the order
of its weights (in, kh, kw), and of a constant 1."""

PICTURES = 12
"""Crops to measure the moments on: 50,000 pixels for at most 10,000 unknowns per layer."""
STEPS = np.linspace(0.7, 2.2, 31)
"""Candidate steps of a bounded layer, relative to the step that maps the largest weight to 127.
Most channels of gan_x4 and gan_x2 use 0.95 to 1.05; the head, with more neighbors, up to 2.1."""
BLOCK = 32
"""Weights to round before the weights behind them are updated."""
DAMPING = 0.01
"""Share of the mean diagonal: without it, channels that are almost always 0 absorb any error."""


@dataclass(frozen=True)
class Rounded:
    """Integer weights of a layer."""

    codes: npt.NDArray[np.int8]
    """(out, in, kh, kw)."""
    step: npt.NDArray[Any]
    """(out,): quantization steps, in the type of the candidates."""
    bias_shift: npt.NDArray[np.float32]
    """(out,): correction to add to the bias."""


def measure(model: onnx.ModelProto, layers: Sequence[Layer], crops: Sequence[Picture]) -> Moments:
    """Run a float graph on crops and return the moments of its layers.

    Grouped and dilated convolutions are excluded.

    Args:
        model: a graph with one uint8 NHWC input.
        layers: layers of that graph.
        crops: each (H, W, C) uint8.
    """
    kernels = {
        layer.name: weights_of(model, layer.weight).shape[1:]
        for layer in layers
        if _is_plain(model.graph.node[layer.index])
    }
    chosen = [layer for layer in layers if layer.name in kernels]
    sources = list(dict.fromkeys(layer.source for layer in chosen))
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sources)
    session = open_session(watched)
    name = session.get_inputs()[0].name
    sums: dict[str, npt.NDArray[np.float64]] = {}
    count: dict[str, int] = {}
    for crop in crops[:: max(1, len(crops) // PICTURES)]:
        values = dict(zip(sources, session.run(None, {name: crop[None]}), strict=True))
        for layer in chosen:
            read = _patches(values[layer.source][0], kernels[layer.name])
            product = (read.T @ read).astype(np.float64)
            sums[layer.name] = sums.get(layer.name, 0) + product
            count[layer.name] = count.get(layer.name, 0) + len(read)
    return {name: total / max(1, count[name]) for name, total in sums.items()}


def divided(moments: Moments, divisors: Mapping[str, npt.NDArray[np.float32]]) -> Moments:
    """Return the moments of the network equalized with `equalization.factors`."""
    found = dict(moments)
    for name, divisor in divisors.items():
        if name in found:
            taps = (len(found[name]) - 1) // len(divisor)
            by = np.append(np.repeat(divisor.astype(np.float64), taps), 1)
            found[name] = found[name] / by[:, None] / by[None, :]
    return found


def rounded(
    weight: npt.NDArray[np.float32],
    steps: npt.NDArray[np.floating],
    moments: npt.NDArray[np.float64],
    *,
    bounded: bool = False,
) -> Rounded:
    """Round a layer's weights; each output channel uses the step with the least output error.

    Args:
        weight: (out, in, kh, kw).
        steps: (candidates, out), in the type in which they are stored.
        moments: moments of the layer, without the constant's row and column if it has no bias.
        bounded: keep to the bound of `saturation` on neighboring weights.
    """
    count, out = steps.shape
    rows = np.tile(weight.reshape(out, -1).astype(np.float64), (count, 1))
    flat = steps.astype(np.float64).ravel()
    beside = neighbors(*layout_of(weight)) if bounded else None
    codes, shift = _compensated(rows, flat, moments, beside)
    error = rows - codes * flat[:, None]
    if len(moments) > rows.shape[1]:
        error = np.hstack([error, -shift[:, None]])
    cost = np.einsum("ri,ri->r", error @ moments, error).reshape(count, out)
    best, every = cost.argmin(axis=0), np.arange(out)
    return Rounded(
        codes.reshape(count, *weight.shape)[best, every],
        steps[best, every],
        shift.reshape(count, out)[best, every].astype(np.float32),
    )


def _compensated(
    rows: npt.NDArray[np.float64],
    steps: npt.NDArray[np.float64],
    moments: npt.NDArray[np.float64],
    beside: npt.NDArray[np.int64] | None,
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
    """Return (rows, taps) int8 codes and the (rows,) bias corrections."""
    taps = rows.shape[1]
    diagonal = np.diag(moments)[:taps]
    damped = moments.copy()
    damped[np.arange(taps), np.arange(taps)] += DAMPING * max(float(diagonal.mean()), 1e-12)
    # weights with the largest inputs first, while many others are left to compensate
    order = np.append(np.argsort(-diagonal, kind="stable"), np.arange(taps, len(moments)))
    upper = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left = np.pad(rows, ((0, 0), (0, len(moments) - taps)))[:, order]
    codes = np.zeros(rows.shape, np.int8)
    for first in range(0, taps, BLOCK):
        last = min(first + BLOCK, taps)
        errors = np.empty((len(rows), last - first))
        for i in range(first, last):
            least, most = (-127, 127) if beside is None else room(codes, order[i], beside, 127)
            code = np.clip(np.round(left[:, i] / steps), least, most)
            error = errors[:, i - first] = (left[:, i] - code * steps) / upper[i, i]
            left[:, i + 1 : last] -= error[:, None] * upper[None, i, i + 1 : last]
            codes[:, order[i]] = code
        # weights behind the block are updated with one product instead of many
        left[:, last:] -= errors @ upper[first:last, last:]
    return codes, left[:, taps] if len(moments) > taps else np.zeros(len(rows))


def _patches(value: npt.NDArray[np.float32], kernel: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return (pixels, k + 1): the inputs of each inner output pixel of (C, H, W), and 1."""
    windows = np.lib.stride_tricks.sliding_window_view(value, kernel[1:], axis=(1, 2))
    read = windows.transpose(1, 2, 0, 3, 4).reshape(-1, int(np.prod(kernel)))
    return np.hstack([read, np.ones((len(read), 1), np.float32)])


def _is_plain(node: onnx.NodeProto) -> bool:
    values = {a.name: a.i or list(a.ints) for a in node.attribute}
    return values.get("group", 1) == 1 and set(values.get("dilations", [1])) == {1}
