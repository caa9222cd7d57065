"""Validation split of `--data`: pictures without calibration or tuning, to decide on QAT.

The folders of `--test` must not decide: a score on the pictures used for a choice is biased.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.errors import UsageError
from training.data.pictures import Pair, decode, make_pair, refuse

SHARE = 0.1
FEWEST = 10
PICTURES = 24
"""Most pictures to evaluate; more would cost time without a better decision."""
SIDE_PX = 256
"""Side of the central square of the ground truth."""
SMALLEST_PX = 16
"""Smallest side of its low-resolution twin."""


def validation(paths: Sequence[Path]) -> list[Path]:
    """Return a share of the pictures, by a hash of their names, as `python -m training` does.

    So the choice does not depend on the order, the seed or the other pictures.

    Raises:
        UsageError: there are too few pictures.
    """
    if len(paths) < FEWEST:
        raise UsageError(
            f"--qat needs a validation split of --data: {len(paths)} pictures, "
            f"expected {FEWEST} or more"
        )
    ranks = [int(hashlib.sha256(path.stem.encode()).hexdigest()[:12], 16) for path in paths]
    # at least one picture
    limit = max(SHARE * 16**12, min(ranks) + 1)
    return [path for path, rank in zip(paths, ranks, strict=True) if rank < limit]


def pairs(paths: Sequence[Path], scale: int) -> list[Pair]:
    """Return central squares of the first usable pictures, with their low-resolution twins.

    Raises:
        DataError: no picture is usable.
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
