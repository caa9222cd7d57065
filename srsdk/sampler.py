"""Draw several likely results for one picture, with per-pixel confidence."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
from PIL import Image

from srsdk.errors import ModelError, PictureError, UsageError
from srsdk.image import decode
from srsdk.image.arrays import Array
from srsdk.image.streams import is_encoded, source_of
from srsdk.inference.noise import Sample
from srsdk.options import UpscalerOptions
from srsdk.scheduling.abandon import within
from srsdk.scheduling.context import Call, Progress
from srsdk.system import memory_limits
from srsdk.upscaler import Upscaler
from srsdk.upscaling.background import Picture
from srsdk.upscaling.steps import Report


@dataclass(frozen=True)
class Hypotheses:
    """Mean, samples and confidence that a sampling model returns for one picture."""

    mean: npt.NDArray[Any]
    """(H * scale, W * scale, 3), in the source's dtype: the best single result."""
    samples: tuple[npt.NDArray[Any], ...]
    """The requested number of likely results, each with the shape and dtype of `mean`."""
    confidence: npt.NDArray[np.float32] | None
    """(H * scale, W * scale), 0..1: the probability that `mean` is within 8 levels of 255 of the
    ground truth; None: not requested."""


class Sampler(Upscaler):
    """An `Upscaler` for models of the family `vae`: calls return the mean, `sample` draws samples.

    Arguments and errors are those of `Upscaler`, plus:

    Raises:
        ModelError: the model has no noise input.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        scale: int | None = None,
        **options: Unpack[UpscalerOptions],
    ) -> None:
        super().__init__(model, scale=scale, **options)
        if not self._engine.signature.latent:
            name = self.manifest.name
            self.close()
            raise ModelError(f"{name} has no noise input, expected a vae model such as vae_x4")

    def sample(
        self,
        picture: Picture,
        samples: int = 1,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        confidence: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Hypotheses:
        """Draw samples for a picture, and its mean.

        Args:
            picture: (H, W, 3) RGB array, a PIL image or a picture file; without alpha.
            samples: number of samples, 0 or more.
            seed: the same seed, picture and model give the same samples, whatever the tile size.
            temperature: factor on the noise, 0 to 1; lower is closer to the mean.
            confidence: whether to return the confidence of the mean.
            progress: called with (tiles done, total tiles); an exception from it cancels the call.
            timeout: seconds; checked before each tile.

        Raises:
            UsageError: an argument is out of range.
            PictureError: not a picture, one with alpha, or one too large for memory.
            BackendError, DeadlineExceeded: as for an `Upscaler` call.
        """
        _check(samples, seed, temperature)
        call = self._begin(None, progress, timeout)
        rgb = _color(picture, call)
        height, width = (side * self.scale for side in rgb.shape[:2])
        need = memory_limits.of_result(height, width, rgb.dtype, has_alpha=False) * (samples + 1)
        need += 4 * height * width * confidence
        call.budget.check_memory(need, None)
        with call.budget.reserve(need, call.check, call.abandoned):
            return self._sampled(rgb, samples, seed, temperature, confidence, call)

    def _sampled(
        self, rgb: Array, samples: int, seed: int, temperature: float, confidence: bool, call: Call
    ) -> Hypotheses:
        height, width = (side * self.scale for side in rgb.shape[:2])
        sureness = np.empty((height, width, 1), np.float32) if confidence else None
        runs = []
        tiles = self._pipeline.count(rgb.shape[0], rgb.shape[1])
        report = Report(call, (samples + 1) * tiles)
        for index in range(samples + 1):
            # the first run is the mean
            factor = temperature if index else 0.0
            run = Sample(seed, index, factor, self.scale, None if index else sureness)
            runs.append(self._pipeline.upscale(rgb, report.part(), sample=run))
        map_ = None if sureness is None else sureness[..., 0]
        return Hypotheses(runs[0], tuple(runs[1:]), map_)

    def _enlarge(self, rgb: Any, call: Call, out: Any = None) -> Any:
        # without noise: the slots may still hold the noise of the last sample
        return self._pipeline.upscale(rgb, call, out, Sample(0, 0, 0.0, self.scale, None))


def _color(picture: Any, call: Call) -> Array:
    if isinstance(picture, Image.Image):
        pixels = within(call, lambda: decode.from_pillow(picture))
    elif is_encoded(picture):
        source = source_of(picture)
        pixels = within(call, lambda: decode.read(source, budget=call.budget))
    else:
        pixels = decode.from_bands(decode.from_array(picture))
    if pixels.alpha is not None:
        raise PictureError("got a picture with alpha, expected RGB only: pass its RGB channels")
    return pixels.rgb


def _check(samples: Any, seed: Any, temperature: Any) -> None:
    for name, value in (("samples", samples), ("seed", seed)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UsageError(f"{name} is {value!r}, expected a whole number, 0 or more")
    if not isinstance(temperature, (int, float)) or not 0 <= temperature <= 1:
        raise UsageError(f"temperature is {temperature!r}, expected 0 to 1")
