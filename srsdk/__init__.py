"""Image super-resolution for applications.

>>> import srsdk
>>> with srsdk.Upscaler("gan_x4") as up:      # doctest: +SKIP
...     large = up(small)                     # (H, W, 3) uint8 -> (4 * H, 4 * W, 3) uint8
"""

from __future__ import annotations

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
from srsdk.options import PictureOptions
from srsdk.sampler import Hypotheses, Sampler
from srsdk.upscaler import Upscaler

__version__ = "0.1.0"

__all__ = [
    "BackendError",
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
    "OutOfMemoryError",
    "OutputError",
    "PictureError",
    "PictureOptions",
    "Restorer",
    "Sampler",
    "SelfTestError",
    "SrsdkError",
    "Upscaler",
    "UsageError",
    "__version__",
]
