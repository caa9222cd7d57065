"""Measure how far the pixels of a network influence each other, by running it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Batch = npt.NDArray[np.uint8]
"""(N, H, W, C)."""
Run = Callable[[Batch], Batch]
"""Upscales a batch."""
RADII_PX = (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
BLOCK_PX = 9
BEYOND_PX = 16
"""Replaced pixels on each side of the kept ones, at least."""
TOLERANCE_LSB = 1
STEP_PX = 64
"""Sides of the test pictures are multiples of this where the network's own multiple allows it, so
that a network which pads its input to its windows has nothing to pad."""

Side = tuple[int, int]
"""(height, width)."""


def measured_radius(
    run: Run, scale: int, channels: int, multiple_px: int = 1, size_px: Side | None = None
) -> int | None:
    """Return the distance beyond which other pixels change a pixel by at most 1 LSB.

    The outer part of a picture is replaced at once, by black and by other noise, which is a larger
    change than neighbors of a real picture make; the kept part stays in its place, so that the
    position of a network's windows does not matter.

    Args:
        run: upscales (N, H, W, C) uint8.
        scale: output size over input size.
        channels: of the pictures.
        multiple_px: input sizes are multiples of this.
        size_px: the only (height, width) that the network accepts; None: any.

    Returns:
        One of `RADII_PX`, or None: even the most distant pixels matter (global context).
    """
    side = side_of(2 * RADII_PX[-1] + BLOCK_PX + BEYOND_PX, multiple_px)
    height, width = size_px or (side, side)
    picture = noise(height, width, channels, 0)
    top, left = (
        # of a small fixed size a quarter on each side is replaced, so shorter distances are seen
        max((each - BLOCK_PX) // 2 - RADII_PX[-1], min(BEYOND_PX, each // 4))
        for each in (height, width)
    )
    kept = np.s_[:, top : height - top, left : width - left]
    wanted = run(picture).astype(np.int16)
    worst = np.zeros((height * scale, width * scale), np.int16)
    for other in (np.zeros_like(picture), noise(height, width, channels, 1)):
        other[kept] = picture[kept]
        worst = np.maximum(worst, np.abs(run(other) - wanted).max(axis=(0, 3)))
    found = worst[top * scale : (height - top) * scale, left * scale : (width - left) * scale]
    return smallest_radius(lambda radius: _inner(found, radius * scale), 0)


def smallest_radius(
    difference: Callable[[int], npt.NDArray[np.int16]], at_least: int, share: float = 1.0
) -> int | None:
    """Return the smallest radius, of `at_least` and `RADII_PX`, with a difference within tolerance.

    Args:
        difference: returns the differences that remain at a radius, in levels; empty: no pixel is
            as far from the replaced or missing pixels.
        at_least: the smallest radius to return; 0: any of `RADII_PX`.
        share: of the pixels that may differ at all.
    """
    for radius in (*([at_least] if at_least else []), *(r for r in RADII_PX if r > at_least)):
        remaining = difference(radius)
        is_close = remaining.size and int(remaining.max()) <= TOLERANCE_LSB
        if is_close and float(np.mean(remaining != 0)) <= share:
            return radius
    return None


def side_of(least_px: int, multiple_px: int) -> int:
    """Return the smallest side of a test picture of at least `least_px`."""
    step = STEP_PX if STEP_PX % multiple_px == 0 else multiple_px
    return -(-least_px // step) * step


def noise(height: int, width: int, channels: int, seed: int) -> Batch:
    """Return (1, H, W, C) coarse blocks with fine noise: every frequency."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (1, -(-height // 8), -(-width // 8), channels))
    blocks = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    return np.clip(blocks + random.normal(0, 30, blocks.shape), 0, 255).astype(np.uint8)


def _inner(values: npt.NDArray[np.int16], border: int) -> npt.NDArray[np.int16]:
    """Cut `border` off every side of (H, W); empty if nothing remains."""
    height, width = values.shape
    return values[border : max(border, height - border), border : max(border, width - border)]
