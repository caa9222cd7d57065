"""Check, before any work, that a run replaces no file that it did not make."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from srsdk.errors import OutputError, PictureError, UsageError
from srsdk.system.paths import bad_name, is_same_file
from srsdk.video.ffmpeg import check_regular
from srsdk.video.parts import Parts


def partial_name(target: Path) -> Path:
    """Return the path of the file that an interrupted run leaves."""
    return target.with_name(f"{target.stem}.partial{target.suffix}")


def check_source(source: Path) -> None:
    """Check, without any library, that there is a file to read.

    Raises:
        PictureError: missing, not a regular file, or a picture.
    """
    check_regular(source)
    if kind := picture_kind(source):
        raise PictureError(
            f"{source} is a {kind} picture; upscale_file (`srsdk upscale`) keeps its frames, times "
            "and transparency"
        )


def picture_kind(path: Path) -> str:
    """Return `GIF`, `PNG`, ... if a file begins like a picture that may be animated; else ""."""
    try:
        # opening a pipe would wait for its writer
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            head = file.read(16)
    except (OSError, ValueError):
        return ""
    if head[4:8] == b"ftyp":
        return {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"mif1": "HEIC"}.get(
            head[8:12], ""
        )
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    kinds = {b"GIF8": "GIF", b"\x89PNG": "PNG"}
    return kinds.get(head[:4], "")


def check_target(target: Path, *, overwrite: bool) -> None:
    """Check the target itself.

    Raises:
        OutputError: an invalid name, a folder that cannot be written, or the target exists.
    """
    folder = target.parent
    if why := bad_name(target.name):
        raise OutputError(f"{target} cannot be written: {why}")
    if not target.suffix:
        raise OutputError(f"{target} has no suffix that names a video format, such as .mkv")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(f"{folder} is not a writable folder")
    if target.is_dir():
        raise OutputError(f"{target} is a folder, expected a file name")
    check_free(target, overwrite=overwrite)


def check_free(path: Path, *, overwrite: bool) -> None:
    """Check that a file may be written.

    Raises:
        OutputError: it exists and may not be replaced.
    """
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path} exists; overwrite=True replaces it")
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        raise OutputError(f"{path} is not a regular file and is never replaced")


def check_collisions(source: Path, target: Path, parts: Parts, *, overwrite: bool) -> None:
    """Check that the run writes neither over its source nor over a file of somebody else.

    Raises:
        UsageError: the source is a file that the run writes.
        OutputError: the partial file exists, and neither this run nor the one it resumes wrote it.
    """
    partial = partial_name(target)
    for path in (target, partial):
        if is_same_file(path, source):
            raise UsageError(f"{source} would be replaced by {path}; choose another target")
    if is_same_file(source.parent, parts.folder):
        raise UsageError(f"{source} is a part of this run; choose another target")
    if not parts.made(partial):
        check_free(partial, overwrite=overwrite)
