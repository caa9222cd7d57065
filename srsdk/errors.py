"""Everything that srsdk raises on purpose.

Each message is one sentence: the fact, what was got against what was expected, what mends it.
"""

from __future__ import annotations


class SrsdkError(Exception):
    """The root: `except srsdk.SrsdkError` catches all that can go wrong."""


class UsageError(SrsdkError, ValueError):
    """An argument that can never work, whatever the machine: a tile of -1, an unknown backend."""


class ModelError(SrsdkError):
    """A file that is no usable model: missing, damaged, or not an image network."""


class ManifestError(ModelError):
    """A model file whose manifest is wrong; names file, field, value and what is allowed."""


class EngineMismatch(ModelError):  # noqa: N818 - the name that the field's users search for
    """A sound engine file that this machine cannot run: other GPU, library or version."""


class SelfTestError(ModelError):
    """A sound file that computes something else on this machine than it promises."""


class BackendError(SrsdkError):
    """A backend that is not installed, or that failed."""


class DeadlineExceeded(SrsdkError, TimeoutError):  # noqa: N818 - the term of the field (gRPC)
    """A picture that was not done within the `timeout` of its call."""


class OutOfMemoryError(BackendError):
    """The device has not enough memory, even for smaller tiles."""


class HealthError(BackendError):
    """A result that cannot be right: not a number, all zero, or far from bicubic."""


class PictureError(SrsdkError):
    """A picture that cannot be read or is of an unsupported kind."""


class OutputError(SrsdkError):
    """A result that cannot be written."""
