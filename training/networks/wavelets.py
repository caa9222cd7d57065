"""The stationary Haar transform."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def haar_bands(picture: Tensor) -> Tensor:
    """Return the stationary (undecimated) Haar transform, (N, 4 * C, H, W): LL, LH, HL, HH.

    Low pass (x[i] + x[i+1]) / 2 and high pass (x[i] - x[i+1]) / 2 along each axis, the last row and
    column repeated. The first letter is the filter along the height, the second along the width;
    each band holds all colors. The four bands of a pixel add up to the pixel.
    """
    padded = F.pad(picture, (0, 1, 0, 1), mode="replicate")
    upper, lower = padded[:, :, :-1], padded[:, :, 1:]
    low, high = (upper + lower) / 2, (upper - lower) / 2
    bands = []
    for rows in (low, high):
        left, right = rows[..., :-1], rows[..., 1:]
        bands += [(left + right) / 2, (left - right) / 2]
    return torch.cat(bands, dim=1)
