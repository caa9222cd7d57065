"""MATLAB's antialiased bicubic `imresize`, the downscaler behind all published tables."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Picture: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]

KERNEL_WIDTH = 4.0


def imresize(picture: Picture, scale: float) -> Picture:
    """Resize one picture as MATLAB R2018's `imresize(picture, scale, "bicubic")` does.

    Args:
        picture: (H, W, C) uint8.
        scale: output size over input size; below 1 the kernel is widened (antialiasing).

    Returns:
        (ceil(H * scale), ceil(W * scale), C) uint8, rounded half up.
    """
    height, width = picture.shape[:2]
    # MATLAB keeps the class of its input between the two passes: rows are rounded and clipped too
    rows = _along_first_axis(picture, _output_length(height, scale), scale)
    columns = _along_first_axis(rows.swapaxes(0, 1), _output_length(width, scale), scale)
    return columns.swapaxes(0, 1)


def resize_matrix(in_length: int, out_length: int, scale: float) -> Floats:
    """Return the resampling of one axis as a matrix, (out_length, in_length) float32.

    `imresize` applies one such matrix along each axis, each followed by rounding.
    """
    weights, indices = _contributions(in_length, out_length, scale)
    matrix = np.zeros((out_length, in_length), np.float32)
    # add.at: at the border several taps fall on the same mirrored sample
    np.add.at(matrix, (np.arange(out_length)[:, None], indices), weights)
    return matrix


def _output_length(length_px: int, scale: float) -> int:
    # 1e-9: 3 * (1 / 3) must not become 2 by a rounding error
    return int(np.ceil(length_px * scale - 1e-9))


def _along_first_axis(values: Picture, out_length: int, scale: float) -> Picture:
    weights, indices = _contributions(values.shape[0], out_length, scale)
    out = np.zeros((out_length, *values.shape[1:]), np.float32)
    for tap in range(weights.shape[1]):
        out += weights[:, tap, None, None] * values[indices[:, tap]]
    rounded: Picture = np.floor(np.clip(out, 0, 255) + 0.5).astype(np.uint8)
    return rounded


@lru_cache(maxsize=256)
def _contributions(
    in_length: int, out_length: int, scale: float
) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Return weights and source indices of every output sample, each (out_length, taps)."""
    stretch = min(scale, 1.0)
    kernel_width = KERNEL_WIDTH / stretch
    center = (np.arange(out_length) + 0.5) / scale - 0.5
    first = np.floor(center - kernel_width / 2).astype(np.intp)
    taps = int(np.ceil(kernel_width)) + 2
    indices = first[:, None] + np.arange(taps)[None, :]
    weights = stretch * _cubic(stretch * (center[:, None] - indices))
    weights /= weights.sum(axis=1, keepdims=True)
    # MATLAB mirrors at the border with the edge sample repeated
    period = 2 * in_length
    mirrored = np.mod(indices, period)
    mirrored = np.where(mirrored >= in_length, period - 1 - mirrored, mirrored)
    used = np.any(weights != 0, axis=0)
    return weights[:, used].astype(np.float32), mirrored[:, used].astype(np.intp)


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -0.5 (Keys 1981)."""
    a = np.abs(x)
    near = 1.5 * a**3 - 2.5 * a**2 + 1
    far = -0.5 * a**3 + 2.5 * a**2 - 4 * a + 2
    return np.where(a <= 1, near, np.where(a <= 2, far, 0.0))
