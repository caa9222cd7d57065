"""Several likely results of one picture, and how sure the model is of each pixel."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from srsdk import memory, pictures
from srsdk.call import Call, Progress
from srsdk.enlarge import Report
from srsdk.errors import ModelError, PictureError, UsageError
from srsdk.sample import Sample
from srsdk.tiles import Array
from srsdk.upscaler import Upscaler


@dataclass(frozen=True)
class Hypotheses:
    """What a model that samples says of one picture."""

    mean: npt.NDArray[Any]
    """(H * scale, W * scale, 3), of the source's dtype: the best single answer."""
    samples: tuple[npt.NDArray[Any], ...]
    """As many likely answers as were asked for, each like `mean`."""
    confidence: npt.NDArray[np.float32] | None
    """(H * scale, W * scale), 0..1: the probability that `mean` is within 8 levels of 255 of the
    truth; None: not asked for."""


class Sampler(Upscaler):
    """A model of the family `vae`: an `Upscaler` whose calls give its mean, and that samples too.

    Args and errors are those of `Upscaler`; also:

    Raises:
        ModelError: the model takes no noise.
    """

    def __init__(self, model: str | os.PathLike[str], **options: Any) -> None:
        super().__init__(model, **options)
        if not self._engine.signature.latent:
            name = self._manifest.name
            self.close()
            raise ModelError(f"{name} takes no noise, so it cannot sample; a vae can: vae_x4")

    def sample(
        self,
        picture: npt.NDArray[Any] | Image.Image | str | os.PathLike[str],
        samples: int = 1,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        confidence: bool = False,
        progress: Progress | None = None,
        timeout: float | None = None,
    ) -> Hypotheses:
        """Draw samples.

        Args:
            picture: (H, W, 3) RGB array, a PIL image or a path; without alpha.
            samples: how many, 0 or more.
            seed: the same seed, picture and model give the same samples, whatever the tile is.
            temperature: 0 to 1; factor on the noise: less is nearer to the mean.
            confidence: whether to return the confidence of the mean.
            progress: called with (tiles done, tiles in all); what it raises cancels the call.
            timeout: seconds; checked before each tile.

        Raises:
            UsageError: an argument out of its range.
            PictureError: no picture, one with alpha, or larger than memory.
            BackendError, DeadlineExceeded: as for a call.
        """
        _check(samples, seed, temperature)
        rgb = _colour(picture)
        height, width = (side * self.scale for side in rgb.shape[:2])
        need = memory.of_result(height, width, rgb.dtype, has_alpha=False) * (samples + 1)
        memory.check(need + 4 * height * width * confidence, None)
        sureness = np.empty((height, width, 1), np.float32) if confidence else None
        runs = []
        tiles = self._pipeline.count(rgb.shape[0], rgb.shape[1])
        report = Report(Call(progress, timeout), (samples + 1) * tiles)
        for index in range(samples + 1):
            # the first run is the mean
            factor = temperature if index else 0.0
            run = Sample(seed, index, factor, self.scale, None if index else sureness)
            runs.append(self._pipeline.upscale(rgb, report.part(), sample=run))
        map_ = None if sureness is None else sureness[..., 0]
        return Hypotheses(runs[0], tuple(runs[1:]), map_)

    def _enlarge(self, rgb: Any, call: Call, out: Any = None) -> Any:
        # without noise, and not with what the last sample left in the slots
        return self._pipeline.upscale(rgb, call, out, Sample(0, 0, 0.0, self.scale, None))


def _colour(picture: Any) -> Array:
    if isinstance(picture, Image.Image):
        pixels = pictures.from_image(picture)
    elif isinstance(picture, (str, os.PathLike)):
        pixels = pictures.read(Path(picture))
    else:
        pixels = pictures.from_bands(pictures.from_array(picture))
    if pixels.alpha is not None:
        raise PictureError("got a picture with alpha, expected one without: sample its colours")
    return pixels.rgb


def _check(samples: Any, seed: Any, temperature: Any) -> None:
    for name, value in (("samples", samples), ("seed", seed)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UsageError(f"{name} is {value!r}, expected a whole number, 0 or more")
    if not isinstance(temperature, (int, float)) or not 0 <= temperature <= 1:
        raise UsageError(f"temperature is {temperature!r}, expected 0 to 1")
