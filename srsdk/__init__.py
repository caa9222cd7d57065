"""Image super-resolution inside other people's applications.

>>> import srsdk
>>> with srsdk.Upscaler("gan_x4") as up:      # doctest: +SKIP
...     large = up(small)                     # (H, W, 3) uint8 -> (4 * H, 4 * W, 3) uint8
"""

from __future__ import annotations

from srsdk.errors import (
    BackendError,
    DeadlineExceeded,
    EngineMismatch,
    HealthError,
    ManifestError,
    ModelError,
    OutOfMemoryError,
    OutputError,
    PictureError,
    SrsdkError,
    UsageError,
)
from srsdk.manifest import Manifest
from srsdk.upscaler import Upscaler

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "DeadlineExceeded",
    "EngineMismatch",
    "HealthError",
    "Manifest",
    "ManifestError",
    "ModelError",
    "OutOfMemoryError",
    "OutputError",
    "PictureError",
    "SrsdkError",
    "Upscaler",
    "UsageError",
    "__version__",
]
