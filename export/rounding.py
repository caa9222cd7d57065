"""Weights rounded so that the layer's output, not each weight for itself, comes out right.

Weights are rounded one after the other, and what one loses is made up for by those that are still
to come, as far as what they read goes together: neighbouring pixels do, and so do channels
(Frantar et al. 2022, "GPTQ", arXiv:2210.17323, after Hassibi and Stork 1992, "Optimal Brain
Surgeon"). The bias comes last and takes what is left, so that no mean is shifted.

Measured with all convolutions in INT8 for CPUs, Set5 and Set14, dB lost by rounding to the nearest
and by this: gan_x4 0.021 and 0.023, 0.010 and 0.012; gan_x2 0.024 and 0.011, 0.025 and 0.006.

For CPUs the weights also stay within `export.saturation`'s bound: a weight that its neighbor leaves
no room for hands its error on like any other, and each output channel takes, of `STEPS`, the step
that costs the layer's output least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.layers import Layer, weights_of
from export.saturation import neighbors, room
from export.session import open_session
from training.resize import Picture

Moments = Mapping[str, npt.NDArray[np.float64]]
"""By a layer's name, (k + 1, k + 1): means of products of what one output pixel reads, in the order
of its weights (in, kh, kw), and of a constant 1."""

PICTURES = 12
"""Crops that the moments are measured on: 50,000 pixels, for at most 10,000 unknowns of a layer."""
STEPS = np.linspace(0.7, 2.2, 31)
"""Candidates for a bounded layer, in parts of the step that the largest weight asks for. Of gan_x4
and gan_x2 most channels take 0.95 to 1.05; the head, where all is neighbor to all, up to 2.1."""
BLOCK = 32
"""Weights that are rounded before the rest is told."""
DAMPING = 0.01
"""Of the mean diagonal: channels that are hardly ever above 0 would take up anything."""


@dataclass(frozen=True)
class Rounded:
    """A layer's weights as integers."""

    codes: npt.NDArray[np.int8]
    """(out, in, kh, kw)."""
    step: npt.NDArray[Any]
    """(out,): what one of them is worth, of the steps' type."""
    bias_shift: npt.NDArray[np.float32]
    """(out,): what the bias makes up for."""


def measure(model: onnx.ModelProto, layers: Sequence[Layer], crops: Sequence[Picture]) -> Moments:
    """Run a float graph on crops and return the moments of its layers.

    Grouped and dilated convolutions are left out.

    Args:
        model: of one uint8 NHWC input.
        layers: of that graph.
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
    """Return those of the network whose channels were evened out (`equalise.factors`)."""
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
    """Round a layer's weights; each output channel takes the step that costs its output least.

    Args:
        weight: (out, in, kh, kw).
        steps: (candidates, out), as they would be stored.
        moments: of the layer; without the row and the column of the constant if it has no bias.
        bounded: hold `export.saturation`'s bound on neighboring weights.
    """
    count, out = steps.shape
    rows = np.tile(weight.reshape(out, -1).astype(np.float64), (count, 1))
    flat = steps.astype(np.float64).ravel()
    beside = neighbors(weight.shape[1], int(np.prod(weight.shape[2:]))) if bounded else None
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
    """Return (rows, taps) int8, and (rows,) what the bias makes up for."""
    taps = rows.shape[1]
    diagonal = np.diag(moments)[:taps]
    damped = moments.copy()
    damped[np.arange(taps), np.arange(taps)] += DAMPING * max(float(diagonal.mean()), 1e-12)
    # what is read most is rounded first, while there are many left to make up for it
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
        # those behind the block are not looked at before: one product instead of many
        left[:, last:] -= errors @ upper[first:last, last:]
    return codes, left[:, taps] if len(moments) > taps else np.zeros(len(rows))


def _patches(value: npt.NDArray[np.float32], kernel: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return (pixels, k + 1): what each output pixel inside of (C, H, W) reads, and 1."""
    windows = np.lib.stride_tricks.sliding_window_view(value, kernel[1:], axis=(1, 2))
    read = windows.transpose(1, 2, 0, 3, 4).reshape(-1, int(np.prod(kernel)))
    return np.hstack([read, np.ones((len(read), 1), np.float32)])


def _is_plain(node: onnx.NodeProto) -> bool:
    values = {a.name: a.i or list(a.ints) for a in node.attribute}
    return values.get("group", 1) == 1 and set(values.get("dilations", [1])) == {1}
