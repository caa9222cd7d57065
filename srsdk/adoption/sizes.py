"""Find which picture sizes a network accepts."""

from __future__ import annotations

from srsdk.adoption.trial import Trial
from srsdk.errors import ModelError

MULTIPLES_PX = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 48, 64)
TRIED_PX = (37, 53)
"""Sizes tried are at least these, and odd multiples, so that no larger multiple fits them."""


def find_multiple(trial: Trial, scale: int, known: int | None) -> int:
    """Return what height and width must be multiples of; `known` is checked only.

    Small pictures must work as well, so a network that needs a margin (reflection padding) gets a
    multiple that covers it.

    Raises:
        ModelError: no multiple works.
    """
    tried = MULTIPLES_PX if known is None else (known,)
    multiple = next((each for each in tried if _works(trial, scale, each)), None)
    if multiple is None:
        what = "any number up to 64" if known is None else str(known)
        raise ModelError(
            f"{trial.source} accepts no sizes that are multiples of {what}: say which with "
            "io=srsdk.IO(multiple=...), or export it with one fixed size"
        )
    if known is not None:
        return known
    larger = (multiple << power for power in range(MULTIPLES_PX[-1].bit_length()))
    fits = (px for px in larger if px <= MULTIPLES_PX[-1] and trial.scale(px, px) == scale)
    return next(fits, multiple)


def _works(trial: Trial, scale: int, multiple: int) -> bool:
    height, width = (_odd(-(-px // multiple)) * multiple for px in TRIED_PX)
    if height == width:
        width += 2 * multiple
    return trial.scale(height, width) == scale


def _odd(number: int) -> int:
    return number if number % 2 else number + 1
