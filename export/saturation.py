"""Weights that no kernel of a CPU can saturate.

x86 processors without VNNI multiply unsigned by signed bytes with `vpmaddubsw`, which adds two
neighboring products into signed 16 bits and saturates (Intel, "64 and IA-32 Architectures Software
Developer's Manual", volume 2, PMADDUBSW). Activations reach 255, so two neighboring weights of the
same sign are exact only where |a| + |b| <= 128 (255 * 128 = 32,640 < 32,767). Weights of opposite
signs pull the sum apart and may be as large as int8 is.

Which weights are neighbors depends on the kernel: channels-last kernels (oneDNN; MLAS of ONNX
Runtime) take two input channels at one tap; where the number of channels is odd, MLAS packs taps
and channels into one row, and a pair may lie across two taps. A weight may so have two neighbors.

Within the bound the same file computes the same integers with and without VNNI, and on ARM64.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

PAIR_LIMIT = 128
"""Largest sum of the magnitudes of two neighboring int8 weights of the same sign."""
ABSENT = -1


@cache
def neighbors(channels: int, taps: int) -> npt.NDArray[np.int64]:
    """Return (channels * taps, n): which weights a kernel may add each one to before it widens.

    Args:
        channels: that one output channel reads.
        taps: height times width of the kernel.

    Returns:
        Indices into a row of weights in the order (channel, tap); `ABSENT` where there is none.
    """
    places = np.arange(channels * taps).reshape(channels, taps)
    found = [_paired(places)]
    if channels % 2:
        # one row of (tap, channel), cut into pairs
        found.append(_paired(np.ascontiguousarray(places.T).reshape(-1, 1)))
    return np.stack(found, axis=1)


def _paired(places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return, for each place, the one beside it: rows 2k and 2k + 1 are a pair."""
    partner = np.full(places.size, ABSENT)
    even = len(places) // 2 * 2
    first, second = places[0:even:2].ravel(), places[1:even:2].ravel()
    partner[first], partner[second] = second, first
    return partner


def pair_sums(weight: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return (out,): the largest sum of magnitudes of two neighbors of the same sign.

    Args:
        weight: (out, in / groups, kh, kw), float or int8.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    beside = neighbors(weight.shape[1], int(np.prod(weight.shape[2:])))
    sums = np.zeros(len(rows))
    for partner in beside.T:
        other = np.where(partner == ABSENT, 0, rows[:, partner])
        together = np.where(rows * other > 0, np.abs(rows + other), 0)
        sums = np.maximum(sums, together.max(axis=1, initial=0))
    return sums


def saturating_rows(weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """Return the output channels of an int8 weight that a kernel may saturate."""
    return np.flatnonzero(pair_sums(weight) > PAIR_LIMIT)


def room(
    codes: npt.NDArray[np.int8], index: int, beside: npt.NDArray[np.int64], most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (rows,) twice: the smallest and the largest code that one weight may still take.

    Args:
        codes: (rows, weights), 0 where a weight is not decided yet.
        index: of the weight.
        beside: `neighbors` of the layer.
        most: largest magnitude of a code on its own.
    """
    least, largest = np.full(len(codes), -most), np.full(len(codes), most)
    for partner in beside[index]:
        if partner != ABSENT:
            other = codes[:, partner].astype(np.int64)
            largest = np.minimum(largest, np.where(other > 0, PAIR_LIMIT - other, most))
            least = np.maximum(least, np.where(other < 0, -PAIR_LIMIT - other, -most))
    return least, largest
