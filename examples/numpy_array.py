"""Upscale a NumPy array: `python examples/numpy_array.py`.

(H, W, 3) uint8 in, (4 * H, 4 * W, 3) uint8 out; also gray, alpha, uint16 and float32.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import srsdk


def enlarged(small: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a picture four times as high and wide."""
    with srsdk.Upscaler("gan_x4") as up:
        return up(small)


def main() -> None:
    """Upscale a gradient."""
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    small = np.tile(ramp[:, np.newaxis], (48, 1, 3))
    large = enlarged(small)
    print(small.shape, "->", large.shape, large.dtype)


if __name__ == "__main__":
    main()
