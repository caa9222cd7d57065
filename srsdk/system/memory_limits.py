"""How much memory pictures may take, and how much a result takes.

The system's out-of-memory killer raises no error to catch, so the need is checked in advance
(`srsdk.budget`).
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from srsdk.system.memory import available_bytes

SHARE = 0.8
"""Share of the available memory that pictures may take; the rest is for other processes."""
FIXED_BYTES = 320 << 20
"""Memory for tiles, libraries and their buffers, besides the picture."""
ALWAYS_FINE_BYTES = 64 << 20
"""Needs up to this are accepted without querying the system."""


def of_result(height: int, width: int, dtype: npt.DTypeLike, *, has_alpha: bool) -> int:
    """Return the size of a result array in bytes."""
    return height * width * (3 + has_alpha) * np.dtype(dtype).itemsize


def allowance(limit_bytes: int | None) -> int:
    """Return the bytes that one picture may take: the limit, but no more than is available."""
    free = available_bytes()
    share = int(free * SHARE) if free is not None else None
    if limit_bytes is None:
        return share if share is not None else sys.maxsize
    return limit_bytes if share is None else min(limit_bytes, share)
