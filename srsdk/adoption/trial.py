"""Run a network on small pictures, to learn what its file does not say."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from srsdk.adoption.form import Form
from srsdk.engines.foreign import MAX_TRIAL_PX
from srsdk.engines.protocol import Engine, Slot, ValuesSlot
from srsdk.errors import BackendError, ModelError, OutOfMemoryError

FIRST_SIZES_PX = ((64, 128), (96, 144), (120, 240), (112, 168))
"""Multiples of 64, 48, 120 and 56: one of them suits every multiple that is tried later."""

Floats = npt.NDArray[np.float32]


class Trial:
    """A network without its range: float32 NHWC in and out, in the network's own values.

    Args:
        source: the file, for error messages.
        engine: opened from `boundary.wrapped(..., raw=True)`; the caller closes it.
        form: input and output.
    """

    def __init__(self, source: str, engine: Engine, form: Form) -> None:
        self.source = source
        self.form = form
        self._engine = engine

    def run(self, picture: Floats) -> Floats:
        """Run on (H, W, C) and return (H', W', C').

        Raises:
            BackendError: the network refuses the size, or returns something else than a picture.
            OutOfMemoryError: not enough memory.
        """
        shape = (self.form.batch or 1, *picture.shape)
        slot: Slot | None = None
        try:
            slot = self._engine.slot(shape)
            slot.input[...] = picture
            if self.form.numbers:
                values = [number.default for number in self.form.numbers]
                cast(ValuesSlot, slot).values[...] = values
            slot.submit()
            output: npt.NDArray[Any] = np.array(slot.wait()[0], np.float32)
        except MemoryError as error:
            raise OutOfMemoryError(
                f"{self.source}: not enough memory for a trial run on {shape}"
            ) from error
        finally:
            if slot is not None:
                slot.close()
        if output.ndim != 3 or output.size == 0:
            raise BackendError(f"the network returned {output.shape} for {picture.shape}")
        return output

    def scale(self, height: int, width: int) -> int | None:
        """Return output size over input size at (height, width); None: the network refuses it."""
        try:
            output = self.run(shapes(height, width, self.form.channels))
        except OutOfMemoryError:
            raise
        except BackendError:
            return None
        scale = output.shape[0] // height
        return scale if output.shape[:2] == (height * scale, width * scale) and scale else None


def shapes(height: int, width: int, channels: int) -> Floats:
    """Return soft shapes with some noise, (height, width, channels) float32, 0 to 1."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    random = np.random.default_rng(0)
    planes = []
    for index in range(channels):
        waves = np.sin(y / (5 + index) + index) * np.cos(x / (7 - index % 4) - index)
        planes.append(0.5 + 0.3 * waves + random.normal(0, 0.02, (height, width)))
    picture: Floats = np.clip(np.dstack(planes), 0, 1).astype(np.float32)
    if channels == 4:
        picture[..., 3] = 1
    return picture


def first_sizes(form: Form, source: str) -> tuple[tuple[int, int], ...]:
    """Return the only size, or some of which nearly every network accepts one.

    Raises:
        ModelError: the only size is too large for a trial run.
    """
    if form.size_px is None:
        return FIRST_SIZES_PX
    height, width = form.size_px
    if (form.batch or 1) * height * width > MAX_TRIAL_PX:
        raise ModelError(
            f"{source} has no manifest, and a trial run on its input of "
            f"{form.batch or 1}x{height}x{width} pixels would take too long: expected at most "
            f"{MAX_TRIAL_PX:,} pixels"
        )
    return ((height, width),)
