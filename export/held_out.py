"""Pictures of `--data` that nothing is calibrated or tuned on: they say whether tuning is kept.

The folders of `--test` must not: what is chosen by them is no longer measured by them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.options import UsageError
from training.data import Pair, decode, make_pair, refuse

SHARE = 0.1
FEWEST = 10
PICTURES = 24
"""So many are looked at: more would take longer than they tell."""
SIDE_PX = 256
"""Of the central square of the truth."""
SMALLEST_PX = 16
"""Of its low-resolution twin."""


def held_out(paths: Sequence[Path]) -> list[Path]:
    """Return a share of the pictures, by a hash of their names, as `python -m training` does.

    So the choice does not depend on the order, on the seed or on which other pictures there are.

    Raises:
        UsageError: there are too few.
    """
    if len(paths) < FEWEST:
        raise UsageError(
            f"--qat holds pictures of --data out to see whether it helps: {len(paths)} are there, "
            f"expected {FEWEST} or more"
        )
    ranks = [int(hashlib.sha256(path.stem.encode()).hexdigest()[:12], 16) for path in paths]
    # at least one, however few there are
    limit = max(SHARE * 16**12, min(ranks) + 1)
    return [path for path, rank in zip(paths, ranks, strict=True) if rank < limit]


def pairs(paths: Sequence[Path], scale: int) -> list[Pair]:
    """Return the central squares of the first usable ones, with their low-resolution twins.

    Raises:
        DataError: none is usable.
    """
    found: list[Pair] = []
    reasons: dict[Path, str] = {}
    for path in paths:
        picture = decode(path, min_px=SMALLEST_PX * scale)
        if isinstance(picture, str):
            reasons[path] = picture
            continue
        tops = [max(0, (side - SIDE_PX) // 2) for side in picture.shape[:2]]
        rows, columns = (slice(top, top + SIDE_PX) for top in tops)
        found.append(make_pair(np.ascontiguousarray(picture[rows, columns]), scale, path.stem))
        if len(found) == PICTURES:
            break
    if not found:
        refuse(paths[0].parent, reasons, len(paths))
    return found
