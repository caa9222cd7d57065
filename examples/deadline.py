"""Give up after some seconds: `python examples/deadline.py IN SECONDS`.

A better model is tried first; if it is too slow for this picture, a faster one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

import srsdk


def main(source: str, seconds: str) -> npt.NDArray[np.generic]:
    """Return the best picture that is done in time."""
    with srsdk.Upscaler("gan_x4_quality", precision="fp32") as best, srsdk.Upscaler("gan_x4") as up:
        try:
            large = best(Path(source), timeout=float(seconds))
            used: srsdk.Upscaler = best
        except srsdk.DeadlineExceeded as error:
            print(error)
            large, used = up(Path(source)), up
    print(f"{used.name}: {large.shape}")
    return large


if __name__ == "__main__":
    main(*sys.argv[1:])
