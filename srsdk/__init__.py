"""Image super-resolution for applications.

>>> import srsdk
>>> with srsdk.Upscaler("gan_x4") as up:      # doctest: +SKIP
...     large = up(small)                     # (H, W, 3) uint8 -> (4 * H, 4 * W, 3) uint8
"""

from __future__ import annotations

from srsdk import models
from srsdk.adoption.io import IO
from srsdk.budget import Budget
from srsdk.chain import Chain, Restorer
from srsdk.errors import (
    BackendError,
    DeadlineExceeded,
    DeviceLostError,
    EngineMismatch,
    HealthError,
    ManifestError,
    ModelError,
    OutOfMemoryError,
    OutputError,
    PictureError,
    SelfTestError,
    SrsdkError,
    UsageError,
)
from srsdk.manifest import Manifest
from srsdk.models.catalog import ModelInfo, list_models
from srsdk.options import PictureOptions, UpscalerOptions
from srsdk.sampler import Hypotheses, Sampler
from srsdk.upscaler import Upscaler
from srsdk.upscaling.background import Picture
from srsdk.upscaling.base import BaseUpscaler

__version__ = "0.1.0"

__all__ = [
    "IO",
    "BackendError",
    "BaseUpscaler",
    "Budget",
    "Chain",
    "DeadlineExceeded",
    "DeviceLostError",
    "EngineMismatch",
    "HealthError",
    "Hypotheses",
    "Manifest",
    "ManifestError",
    "ModelError",
    "ModelInfo",
    "OutOfMemoryError",
    "OutputError",
    "Picture",
    "PictureError",
    "PictureOptions",
    "Restorer",
    "Sampler",
    "SelfTestError",
    "SrsdkError",
    "Upscaler",
    "UpscalerOptions",
    "UsageError",
    "__version__",
    "list_models",
    "models",
]
