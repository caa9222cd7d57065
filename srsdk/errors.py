"""Exceptions that srsdk raises.

Each message is one sentence: the fact, what was got against what was expected, and the fix.
"""

from __future__ import annotations


class SrsdkError(Exception):
    """Base class: `except srsdk.SrsdkError` catches every error of this package."""


class UsageError(SrsdkError, ValueError):
    """An argument that is invalid on every machine: a tile of -1, an unknown backend."""


class ModelError(SrsdkError):
    """A model file that cannot be used: missing, damaged, or not an image network."""


class ManifestError(ModelError):
    """A model file with an invalid manifest; names file, field, value and allowed values."""


class EngineMismatch(ModelError):  # noqa: N818 - the name that the field's users search for
    """A valid engine file built for another GPU, library or version."""


class SelfTestError(ModelError):
    """A valid model file whose results on this machine differ too much from its probe."""


class BackendError(SrsdkError):
    """A backend that is not installed or has failed."""


class DeadlineExceeded(SrsdkError, TimeoutError):  # noqa: N818 - the term of the field (gRPC)
    """A picture that was not finished within the `timeout` of its call."""


class OutOfMemoryError(BackendError):
    """The device does not have enough memory, even for smaller tiles."""


class DeviceLostError(BackendError):
    """A GPU error after which nothing on that GPU works in this process: restart the process."""


class HealthError(BackendError):
    """A result that cannot be right: NaN or infinite, all zero, or far from bicubic."""


class PictureError(SrsdkError):
    """A picture that cannot be read or has an unsupported format."""


class OutputError(SrsdkError):
    """A result that cannot be written."""


class TargetExistsError(OutputError):
    """A target that exists, or has appeared meanwhile, and may not be replaced."""
