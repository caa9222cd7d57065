"""Import PyAV, the binding to FFmpeg's libraries, open files with limits, and translate errors."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from PIL import Image

from srsdk.errors import BackendError, PictureError, SrsdkError

if TYPE_CHECKING:
    from av.container import InputContainer

FORMATS = (
    *("matroska", "webm", "mov", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "live_flv", "asf"),
    *("ogg", "mxf", "gxf", "nut", "ivf", "dv", "wtv", "rm", "nuv", "nsv", "pva", "ty", "lxf"),
    *("gif", "apng", "yuv4mpegpipe", "mjpeg", "h261", "h263", "h264", "hevc", "vvc", "m4v", "obu"),
    *("av1", "vc1", "vc1test", "avs2", "avs3", "cavsvideo", "dirac", "dnxhd", "dhav", "vivo"),
    *("bink", "smk", "roq", "flic", "film_cpk", "ea", "4xm", "thp", "idcin", "bfi", "cine", "swf"),
)
"""FFmpeg's names of the formats that are read: one file that contains a video. Never playlists,
which name other files or URLs, scripts, devices, or formats that guess from any text."""
_FILES_ONLY = {"protocol_whitelist": "file"}


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


def url(path: Path) -> str:
    """Return what FFmpeg opens as exactly this file, even if its name looks like a URL."""
    return f"file:{path}"


def limits() -> dict[str, str]:
    """Return the decoder options that refuse a frame before it is allocated.

    Decoders round the width up, so they get some room above `max_pixels`.
    """
    allowed = max_pixels()
    return {} if allowed is None else {"max_pixels": str(allowed + allowed // 64 + (1 << 16))}


def max_pixels() -> int | None:
    """Return the largest frame in pixels: Pillow's limit for pictures; None: unlimited."""
    limit = Image.MAX_IMAGE_PIXELS
    return None if limit is None else 2 * limit


def open_input(path: Path) -> InputContainer:
    """Open a video file.

    Raises:
        PictureError: missing, not a regular file, or not a video that FFmpeg can read.
    """
    check_regular(path)
    av = import_av()
    only = {**_FILES_ONLY, "format_whitelist": ",".join(FORMATS)}
    with translated(f"{path} is not a video that FFmpeg can read", PictureError):
        try:
            container: InputContainer = av.open(
                url(path), options=limits(), container_options=only, metadata_errors="replace"
            )
        except av.error.ArgumentError as error:
            raise PictureError(
                f"{path} is not a video in a supported format, such as Matroska, MP4 or AVI; "
                "pictures are for `srsdk upscale`"
            ) from error
    return container


def reopen(path: Path, form: str | None = None) -> InputContainer:
    """Open a video file that this process wrote."""
    container: InputContainer = import_av().open(
        url(path), format=form, container_options=_FILES_ONLY
    )
    return container


def check_regular(path: Path) -> None:
    """Check that a path leads to a regular file.

    Raises:
        PictureError: missing, or a folder, pipe, socket or device.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise PictureError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise PictureError(f"{path} cannot be read: {error}") from error
    if stat.S_ISDIR(mode):
        raise PictureError(f"{path} is a folder, expected a video file")
    if not stat.S_ISREG(mode):
        raise PictureError(f"{path} is a pipe, socket or device, expected a video file")


@contextmanager
def translated(what: str, kind: type[SrsdkError]) -> Iterator[None]:
    """Translate an FFmpeg error into an error of `kind`, keeping the cause.

    PyAV itself raises `ValueError`, and `OverflowError` for numbers that C has no room for.
    """
    av = import_av()
    try:
        yield
    except (av.error.FFmpegError, ValueError, ArithmeticError, MemoryError) as error:
        text = getattr(error, "strerror", None) or str(error) or "not enough memory"
        log = getattr(error, "log", None)
        detail = f" ({log[2].strip()})" if log else ""
        raise kind(f"{what}: {text}{detail}") from error
