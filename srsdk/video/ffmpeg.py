"""Import PyAV, the binding to FFmpeg's libraries, and translate its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from srsdk.errors import BackendError, SrsdkError

FILES_ONLY = {"protocol_whitelist": "file"}
"""Local files only: a playlist could name URLs, and reading a video must open no connection."""


def import_av() -> ModuleType:
    """Return PyAV.

    Raises:
        BackendError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise BackendError("video needs PyAV: pip install 'srsdk[video]'") from error
    return av


@contextmanager
def translated(what: str, kind: type[SrsdkError]) -> Iterator[None]:
    """Translate an FFmpeg error into an error of `kind`, keeping the cause."""
    av = import_av()
    try:
        yield
    except (av.error.FFmpegError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        log = getattr(error, "log", None)
        detail = f" ({log[2].strip()})" if log else ""
        raise kind(f"{what}: {text}{detail}") from error
