"""Bound on INT8 weights that prevents saturation in CPU kernels.

x86 processors without VNNI multiply unsigned by signed bytes with `vpmaddubsw`, which adds two
neighboring products into signed 16 bits and saturates (Intel, "64 and IA-32 Architectures Software
Developer's Manual", volume 2, PMADDUBSW). Activations reach 255, so two neighboring weights of the
same sign are exact only if |a| + |b| <= 128 (255 * 128 = 32,640 < 32,767). Products of weights with
opposite signs cancel, so these may use the full range of int8.

Which weights are neighbors depends on the kernel: channels-last kernels (oneDNN; MLAS of ONNX
Runtime) pair two input channels at one tap. If the number of channels is odd, MLAS packs taps and
channels into one row, and a pair may span two taps; oneDNN's kernels for AVX-512 without VNNI pack
the taps of a single channel column by column. A weight can therefore have several neighbors.

Within the bound, a file computes the same integers with VNNI, without VNNI, and on ARM64.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

PAIR_LIMIT = 128
"""Largest sum of the magnitudes of two neighboring int8 weights of the same sign."""
ABSENT = -1


@cache
def neighbors(channels: int, taps: int, columns: int = 0) -> npt.NDArray[np.int64]:
    """Return (channels * taps, n): the weights that a kernel may add to each one in 16 bits.

    Args:
        channels: input channels of one output channel.
        taps: height times width of the kernel.
        columns: width of the kernel; 0: one row.

    Returns:
        Indices into a row of weights in the order (channel, tap); `ABSENT`: no neighbor.
    """
    indices = np.arange(channels * taps).reshape(channels, taps)
    found = [_paired(indices)]
    if channels % 2:
        # one row of (tap, channel), cut into pairs
        found.append(_paired(np.ascontiguousarray(indices.T).reshape(-1, 1)))
        if channels == 1 and 0 < columns < taps:
            # one row of (column, row) of the kernel
            by_columns = indices.reshape(-1, columns).T
            found.append(_paired(np.ascontiguousarray(by_columns).reshape(-1, 1)))
    return np.stack(found, axis=1)


def layout_of(weight: npt.NDArray[np.generic]) -> tuple[int, int, int]:
    """Return the arguments of `neighbors` for (out, in / groups, kh, kw)."""
    return weight.shape[1], int(np.prod(weight.shape[2:])), weight.shape[-1]


def _paired(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the partner of each index; rows 2k and 2k + 1 are a pair."""
    partner = np.full(indices.size, ABSENT)
    even = len(indices) // 2 * 2
    first, second = indices[0:even:2].ravel(), indices[1:even:2].ravel()
    partner[first], partner[second] = second, first
    return partner


def pair_sums(weight: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return (out,): the largest sum of magnitudes of two neighbors of the same sign.

    Args:
        weight: (out, in / groups, kh, kw), float or int8.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    beside = neighbors(*layout_of(weight))
    sums = np.zeros(len(rows))
    for partner in beside.T:
        other = np.where(partner == ABSENT, 0, rows[:, partner])
        together = np.where(rows * other > 0, np.abs(rows + other), 0)
        sums = np.maximum(sums, together.max(axis=1, initial=0))
    return sums


def saturating_rows(weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Return the output channels of an int8 weight that may saturate in a kernel."""
    return np.flatnonzero(pair_sums(weight) > PAIR_LIMIT)


def room(
    codes: npt.NDArray[np.int8], index: int, beside: npt.NDArray[np.int64], most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the smallest and the largest code that one weight may still take, (rows,) each.

    Args:
        codes: (rows, weights), 0 for weights that are not rounded yet.
        index: index of the weight.
        beside: `neighbors` of the layer.
        most: largest magnitude of a single code.
    """
    least, largest = np.full(len(codes), -most), np.full(len(codes), most)
    for partner in beside[index]:
        if partner != ABSENT:
            other = codes[:, partner].astype(np.int64)
            largest = np.minimum(largest, np.where(other > 0, PAIR_LIMIT - other, most))
            least = np.maximum(least, np.where(other < 0, -PAIR_LIMIT - other, -most))
    return least, largest
