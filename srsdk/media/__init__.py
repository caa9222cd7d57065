"""What a video file is made of: reading, encoding, parts on the disk, putting it together.

All of it speaks to FFmpeg's libraries through PyAV; `srsdk.video` is the door.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from srsdk.errors import BackendError, SrsdkError

FILES_ONLY = {"protocol_whitelist": "file"}
"""A playlist could name addresses; a video file never opens a connection."""


def import_av() -> ModuleType:
    """Return PyAV.

    Raises:
        BackendError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise BackendError("video needs PyAV: pip install 'srsdk[video]'") from error
    return av


@contextmanager
def translated(what: str, kind: type[SrsdkError]) -> Iterator[None]:
    """Turn what FFmpeg raises into ours, keeping the cause."""
    av = import_av()
    try:
        yield
    except (av.error.FFmpegError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        log = getattr(error, "log", None)
        detail = f" ({log[2].strip()})" if log else ""
        raise kind(f"{what}: {text}{detail}") from error
