"""Compute the output size, and resize and crop the model's result to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from srsdk.image.arrays import WHITE, Array
from srsdk.options import PictureOptions


@dataclass(frozen=True)
class Goal:
    """Output size of a picture."""

    height: int
    """Height to resize to."""
    width: int
    """Width to resize to."""
    crop: tuple[int, int, int, int] | None = None
    """(top, left, height, width) to keep after resizing; None: all."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return (self.height, self.width) if self.crop is None else self.crop[2:]

    def factor(self, height: int, width: int) -> float:
        """Return the enlargement of a source, along the axis that grows more."""
        return max(self.height / height, self.width / width)


def goal(options: PictureOptions, height: int, width: int, scale: int) -> Goal:
    """Return the output size for a source.

    Args:
        options: the requested size.
        height: height of the source.
        width: width of the source.
        scale: scale of the model, used if no size is requested.
    """
    if options.width is None and options.height is None:
        factor = options.scale or scale
        return Goal(_side(height * factor), _side(width * factor))
    if options.width is None or options.height is None:
        factor = (options.width or 0) / width or (options.height or 0) / height
        return Goal(
            options.height or _side(height * factor), options.width or _side(width * factor)
        )
    wanted = options.height, options.width
    if options.fit == "fill":
        return Goal(*wanted)
    factors = wanted[0] / height, wanted[1] / width
    factor = min(factors) if options.fit == "contain" else max(factors)
    sides = _side(height * factor), _side(width * factor)
    if options.fit == "contain":
        return Goal(*sides)
    top, left = ((side - want) // 2 for side, want in zip(sides, wanted, strict=True))
    return Goal(*sides, (top, left, *wanted))


def resize_and_crop(array: Array, target: Goal) -> Array:
    """Resize (H, W) or (H, W, C) to a goal, with antialiasing, and crop."""
    result = resized(array, target.height, target.width)
    if target.crop is None:
        return result
    top, left, height, width = target.crop
    return result[top : top + height, left : left + width]


def resized(array: Array, height: int, width: int) -> Array:
    """Resize (H, W) or (H, W, C) with a Lanczos filter, widened when reducing (antialiasing)."""
    if array.shape[:2] == (height, width):
        return array
    if array.dtype == np.uint8:
        image = Image.fromarray(np.ascontiguousarray(array))
        return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    planes = [array] if array.ndim == 2 else list(np.moveaxis(array, 2, 0))
    done = [_resized_plane(plane, height, width) for plane in planes]
    return done[0] if array.ndim == 2 else np.stack(done, axis=2)


def _resized_plane(plane: Array, height: int, width: int) -> Array:
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    result: Array = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    if plane.dtype == np.float32:
        return result
    levels = np.rint(np.clip(result, 0, WHITE[plane.dtype.name]))
    return np.asarray(levels, plane.dtype)


def _side(value: float) -> int:
    return max(1, round(value))
