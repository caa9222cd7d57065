"""Upscale one picture with one or several models: color, alpha, value range and size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from srsdk.errors import UsageError
from srsdk.image import alpha as alphas
from srsdk.image.arrays import Array
from srsdk.image.hdr import into_unit
from srsdk.image.pixels import Pixels
from srsdk.image.resize import Goal, goal, resize_and_crop, resized
from srsdk.options import PictureOptions
from srsdk.scheduling.context import Call
from srsdk.system import memory_limits

LANCZOS_REACH_PX = 4
"""Radius of the Lanczos filter that enlarges alpha, in source pixels."""
MAX_FACTOR = 16


@dataclass(frozen=True)
class Step:
    """One model in a sequence of models."""

    name: str
    """The model's name."""
    scale: int
    """Output size over input size."""
    radius_px: int
    """Receptive-field radius in input pixels."""
    multiple_px: int
    """Rows of tiles begin at multiples of this, in pictures of any size."""
    run: Callable[[Array, Call], Array]
    """Maps (H, W, 3) to (H * scale, W * scale, 3), of the same dtype."""
    count: Callable[[int, int], int]
    """Number of tiles of a picture of (height, width)."""
    takes_alpha: bool = False
    """`run` also maps (H, W, 4), color and alpha together."""
    inputs: tuple[str, ...] = ()
    """Names of the numbers that it takes beside the picture."""
    input_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """See `Manifest.input_ranges`."""
    tiling: str = "exact"
    """Whether parts of a picture give what the whole gives; see `Manifest.tiling`."""


def factor_of(steps: Sequence[Step]) -> int:
    """Return the total scale of all steps."""
    return math.prod(step.scale for step in steps)


def steps_for(steps: Sequence[Step], factor: float) -> tuple[Step, ...]:
    """Return the steps that reach a factor, repeating the last step as often as needed.

    A picture that does not grow needs only the steps of scale 1, which restore.

    Raises:
        UsageError: the models do not enlarge, or the factor is above 16.
    """
    if factor > MAX_FACTOR:
        raise UsageError(f"the result would be {factor:.3g} times as large, at most {MAX_FACTOR}")
    if factor <= 1:
        return tuple(step for step in steps if step.scale == 1)
    chosen = tuple(steps)
    while factor_of(chosen) < factor - 1e-6:
        if steps[-1].scale == 1:
            name = steps[-1].name
            raise UsageError(f"{name} does not enlarge, but {factor:.3g} times is requested")
        chosen = (*chosen, steps[-1])
    return chosen


def count(steps: Sequence[Step], height: int, width: int) -> int:
    """Return the number of tiles of a picture's color in all steps."""
    total = 0
    for step in steps:
        total += step.count(height, width)
        height, width = height * step.scale, width * step.scale
    return total


def halo_px(steps: Sequence[Step], *, has_alpha: bool) -> int:
    """Return the combined receptive-field radius of all steps, in source pixels."""
    reach_px, scale = 0.0, 1
    for step in steps:
        reach_px += step.radius_px / scale
        scale *= step.scale
    if has_alpha:
        reach_px += alphas.FILL_REACH_PX + LANCZOS_REACH_PX
    return math.ceil(reach_px)


def grid_px(steps: Sequence[Step]) -> int:
    """Return the grid of source rows on which every step's tiles begin at its multiples."""
    grid, scale = 1, 1
    for step in steps:
        grid = math.lcm(grid, step.multiple_px // math.gcd(step.multiple_px, scale))
        scale *= step.scale
    return grid


def upscale(steps: Sequence[Step], pixels: Pixels, options: PictureOptions, call: Call) -> Pixels:
    """Upscale a picture to the size that the options request.

    Raises:
        UsageError: more than 16 times.
        PictureError: floats that are not finite.
    """
    target = goal(options, pixels.height, pixels.width, factor_of(steps))
    chosen = steps
    if options.resizes:
        chosen = steps_for(steps, target.factor(pixels.height, pixels.width))
    return finished(enlarge(chosen, pixels, options.alpha == "model", call), target)


def enlarge(steps: Sequence[Step], pixels: Pixels, by_model: bool, call: Call) -> Pixels:
    """Run all steps on color, and on alpha if it is not constant and `by_model` is set."""
    unit, restore = into_unit(pixels)
    alpha = unit.alpha
    report = Report(call, count(steps, pixels.height, pixels.width))
    if alpha is None or alphas.constant(alpha):
        color = _run(steps, unit.rgb, report)
        flat = None if alpha is None else np.full(color.shape[:2], alpha.flat[0], alpha.dtype)
        return restore(replace(unit, rgb=color, alpha=flat))
    growing = [step for step in steps if step.scale > 1] if by_model else []
    if by_model and all(step.takes_alpha for step in steps):
        both = _run(steps, np.dstack([unit.rgb, alpha]), report)
        return restore(replace(unit, rgb=both[..., :3], alpha=both[..., 3]))
    report.total += count(growing, pixels.height, pixels.width)
    color = _run(steps, alphas.filled(unit.rgb, alpha), report)
    if growing:
        planes = np.broadcast_to(alpha[..., None], (*alpha.shape, 3))
        large = _mean(_run(growing, planes, report))
    else:
        large = resized(alpha, *color.shape[:2])
    return restore(replace(unit, rgb=color, alpha=alphas.without_ringing(large, alpha)))


def finished(pixels: Pixels, target: Goal) -> Pixels:
    """Resize and crop a result to its final size."""
    alpha = None if pixels.alpha is None else resize_and_crop(pixels.alpha, target)
    return replace(pixels, rgb=resize_and_crop(pixels.rgb, target), alpha=alpha)


def result_bytes(
    steps: Sequence[Step],
    height: int,
    width: int,
    dtype: npt.DTypeLike,
    options: PictureOptions,
    *,
    has_alpha: bool,
) -> int:
    """Return the memory of a picture's result, before it is resized.

    Raises:
        UsageError: more than 16 times.
    """
    chosen = steps
    if options.resizes:
        target = goal(options, height, width, factor_of(steps))
        chosen = steps_for(steps, target.factor(height, width))
    factor = factor_of(chosen)
    return memory_limits.of_result(height * factor, width * factor, dtype, has_alpha=has_alpha)


def _run(steps: Sequence[Step], color: Array, report: Report) -> Array:
    for step in steps:
        color = step.run(color, report.part())
    return color


def _mean(planes: Array) -> Array:
    if planes.dtype == np.float32:
        return np.asarray(planes.mean(axis=2))
    levels = planes.sum(axis=2, dtype=np.uint32)
    return np.asarray((levels + 1) // 3, planes.dtype)


class Report:
    """Sum the tiles of several runs into the progress of one call."""

    def __init__(self, call: Call, total: int) -> None:
        self._call = call
        self._done = 0
        self.total = total

    def part(self) -> Call:
        """Return the call for the next run."""
        before = self._done

        def show(done: int, _: int) -> None:
            self._done = before + done
            self._call.report(self._done, self.total)

        return self._call.part(show)
