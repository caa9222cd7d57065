"""Encode picture files atomically, within the limits of each format."""

from __future__ import annotations

import io
import logging
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srsdk.errors import OutputError, SrsdkError, TargetExistsError, UsageError
from srsdk.image import vips
from srsdk.image.arrays import WHITE
from srsdk.image.metadata import Carried, pillow_options, warn_of_loss
from srsdk.image.pixels import Pixels, to_depth, to_image
from srsdk.image.streams import Place, Sink
from srsdk.options import PictureOptions
from srsdk.system import durable
from srsdk.system.paths import bad_name

log = logging.getLogger("srsdk")

JPEG_QUALITY = 95
AVIF_QUALITY = 90
MAX_SIDE_PX = {
    **dict.fromkeys(("JPEG", "MPO", "PDF"), 65500),
    **dict.fromkeys(("GIF", "TGA", "SGI"), 65535),
    "PCX": 65534,
    "WEBP": 16383,
    "AVIF": 65536,
}
"""Longest side by format, measured with Pillow 13.0; other formats are limited by memory only."""
NO_ALPHA = ("JPEG", "MPO", "PCX", "EPS", "PPM")


Encoder = Callable[[Path | io.BytesIO], None]
"""Encodes a picture into the file of that name, or into memory."""


def fitted(pixels: Pixels, target: Place) -> Pixels:
    """Return a picture as the target's format can hold it: no alpha, and metadata that fits.

    Called before any work: what is lost is logged, and what cannot be lost is an error.

    Raises:
        OutputError: the picture has transparent parts, which the format cannot hold.
    """
    kind = format_of(target)
    if kind in NO_ALPHA:
        pixels = without_alpha(pixels, target)
    return replace(pixels, carried=fitted_metadata(pixels.carried, target))


def fitted_metadata(carried: Carried, target: Place) -> Carried:
    """Return the metadata that the target's format can hold, and log what it cannot.

    Each kind of metadata is written beside one pixel. A JPEG file holds at most 64 KB of each, and
    some EXIF that Pillow reads it cannot write.
    """
    kind = format_of(target)
    warn_of_loss(carried, target, kind)
    for name, what, none in _METADATA:
        value = getattr(carried, name)
        if value and (why := _refusal(replace(Carried(), **{name: value}), kind)):
            log.warning(
                "%s: the source's %s cannot be written and is dropped: %s", target, what, why
            )
            carried = replace(carried, **{name: none})
    return carried


_METADATA: tuple[tuple[str, str, Any], ...] = (
    ("exif", "EXIF", None),
    ("xmp", "XMP", None),
    ("icc", "ICC profile", None),
    ("comment", "comment", None),
    ("texts", "texts", {}),
    ("dpi", "resolution", None),
)


def _refusal(carried: Carried, kind: str) -> str:
    """Return why Pillow cannot write this metadata in a format, or read it back, or ""."""
    file = io.BytesIO()
    try:
        options = pillow_options(carried.resized(1, 1), kind)
        Image.new("RGB", (1, 1)).save(
            file, kind, **options, **save_options(kind, PictureOptions(), carried)
        )
        # a PNG file with an ICC profile above 1 MB is written, but Pillow cannot open it
        with Image.open(file) as written:
            written.load()
    except Exception as error:  # Pillow raises exceptions of many types for odd metadata
        return str(error) or repr(error)
    return ""


def encoder_of(pixels: Pixels, target: Place, options: PictureOptions | None = None) -> Encoder:
    """Return a function that encodes a result that `fitted` prepared, for `replacing`.

    Raises:
        PictureError: 16 bits per color channel without libvips.
    """
    kind = format_of(target)
    pixels = _reduce_depth(pixels, target, kind)
    carried = pixels.carried.resized(pixels.width, pixels.height)
    bands = pixels.bands()
    if bands.dtype == np.uint8 or bands.shape[2] == 1:
        image = to_image(pixels)
        saved = pillow_options(carried, kind) | save_options(
            kind, options or PictureOptions(), carried
        )
        return lambda temporary: image.save(temporary, format=kind, **saved)
    vips.load(f"{target} needs {bands.dtype} colors, which Pillow cannot write")

    def encode(temporary: Path | io.BytesIO) -> None:
        with vips.translated(str(target), OutputError):
            vips.write(vips.from_bands(bands), temporary, kind, carried, {})

    return encode


def write(image: Image.Image, target: Path, carried: dict[str, Any]) -> None:
    """Encode a Pillow image to a temporary file in the target's folder, then rename it.

    Raises:
        OutputError: the disk is full, or the format cannot hold the picture.
    """
    options = dict(carried) | save_options(format_of(target), PictureOptions(), Carried())
    with replacing(target) as temporary:
        image.save(temporary, **options)


def check_target(target: Place, *, overwrite: bool, options: PictureOptions | None = None) -> None:
    """Reject a target that cannot be written, before any work.

    Raises:
        OutputError: unknown format, no such folder, not writable, or the target exists.
        UsageError: an option that the format does not support.
    """
    if isinstance(target, Path):
        _check_path(target, overwrite=overwrite)
    if options is not None and options.quality == "lossless":
        lossy = format_of(target)
        if lossy in ("JPEG", "AVIF", "JPEG2000"):
            raise UsageError(f"{target}: {lossy} is lossy; use .webp, .png or .tiff")


def _check_path(target: Path, *, overwrite: bool) -> None:
    Image.init()
    suffix = target.suffix.lower()
    if Image.EXTENSION.get(suffix) not in Image.SAVE:
        raise OutputError(
            f"{target}: {suffix or 'no suffix'!r} is not a writable picture format; use .png, "
            ".jpg, .webp, .avif or .tiff"
        )
    if why := bad_name(target.name):
        raise OutputError(f"{target} cannot be written: {why}")
    try:
        _check_location(target, overwrite=overwrite)
    except (OSError, ValueError) as error:
        # the name is too long or contains a null character
        raise OutputError(f"{target} cannot be written: {error}") from error


def _check_location(target: Path, *, overwrite: bool) -> None:
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"{folder} is not a folder")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder} is not writable")
    if target.is_dir():
        raise OutputError(f"{target} is a folder, expected a file name")
    # a symbolic link counts, wherever it points
    if (target.exists() or target.is_symlink()) and not overwrite:
        raise exists(target)


def exists(target: Path) -> TargetExistsError:
    """Return the error for a target that may not be replaced."""
    return TargetExistsError(f"{target} exists; overwrite=True replaces it")


def check_size(target: Place, height: int, width: int) -> None:
    """Reject a result that is larger than its format can hold, before any work.

    Raises:
        OutputError: a side is too long.
    """
    kind = format_of(target)
    longest_px = MAX_SIDE_PX.get(kind)
    if longest_px is not None and max(height, width) > longest_px:
        raise OutputError(
            f"{target}: {kind} holds at most {longest_px} px a side, the result is "
            f"{width}x{height}: write .png or .tiff, or make it smaller"
        )


def without_alpha(pixels: Pixels, target: Place) -> Pixels:
    """Drop an opaque alpha, for a format without alpha.

    Raises:
        OutputError: the picture has transparent parts.
    """
    if pixels.alpha is None or pixels.alpha.min() == WHITE[pixels.alpha.dtype.name]:
        return replace(pixels, alpha=None)
    raise transparent(target)


def transparent(target: Place) -> OutputError:
    """Return the error for a picture with transparent parts and a format without alpha."""
    return OutputError(
        f"{target}: the picture has transparent parts, which {format_of(target)} cannot hold; "
        "use .png, .webp, .avif or .tiff"
    )


def format_of(target: Place) -> str:
    """Return the format of a target, by Pillow's name; a path has it in its suffix."""
    if isinstance(target, Sink):
        return target.kind
    Image.init()
    return Image.EXTENSION[target.suffix.lower()]


def save_options(kind: str, options: PictureOptions, carried: Carried) -> dict[str, Any]:
    """Return Pillow's encoder options for a format."""
    keeps = options.quality == "keep"
    quality = options.quality if isinstance(options.quality, int) else None
    sampling = "4:4:4" if options.subsampling in (None, "keep") else options.subsampling
    if kind in ("JPEG", "MPO"):
        if keeps and carried.jpeg_tables:
            return dict(carried.jpeg_tables)
        if options.subsampling == "keep" and carried.jpeg_tables:
            sampling = carried.jpeg_tables["subsampling"]
        return {"quality": quality or JPEG_QUALITY, "subsampling": sampling}
    if kind == "WEBP":
        if options.quality == "lossless":
            return {"lossless": True, "exact": True}
        return {"quality": quality or JPEG_QUALITY}
    if kind == "AVIF":
        return {"quality": quality or AVIF_QUALITY, "subsampling": sampling}
    if kind == "TIFF" and not carried.exif and not carried.xmp:
        # Pillow cannot write EXIF through libtiff, which it needs for compression
        return {"compression": "tiff_adobe_deflate"}
    return {}


@contextmanager
def replacing(target: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; on success, sync and rename it.

    Raises:
        TargetExistsError: the target has appeared meanwhile and may not be replaced.
        OutputError: the disk is full, or the format cannot hold the picture.
    """
    with _translated(target):
        try:
            with durable.replacing(target, overwrite=overwrite) as temporary:
                yield temporary
        except FileExistsError as error:
            raise exists(target) from error


@contextmanager
def writing(target: Place, *, overwrite: bool = True) -> Iterator[Path | io.BytesIO]:
    """As `replacing`; for an open file, yield memory, and write all of it on success."""
    if isinstance(target, Path):
        with replacing(target, overwrite=overwrite) as temporary:
            yield temporary
        return
    with _translated(target):
        encoded = io.BytesIO()
        yield encoded
        target.file.write(encoded.getbuffer())


@contextmanager
def _translated(target: Place) -> Iterator[None]:
    try:
        yield
    except SrsdkError:
        raise  # a deadline is an OSError too, and frames are computed while they are written
    except (OSError, ValueError, OverflowError, RuntimeError, struct.error) as error:
        raise OutputError(f"{target} cannot be written: {error}") from error


def _reduce_depth(pixels: Pixels, target: Place, kind: str) -> Pixels:
    """Reduce the depth to what the format can hold, with a warning."""
    dtype = pixels.rgb.dtype
    if dtype == np.uint8 or (kind == "TIFF") or (kind == "PNG" and dtype == np.uint16):
        return pixels
    if dtype == np.float32 and (pixels.rgb.min() < 0 or pixels.rgb.max() > 1):
        log.warning("%s: %s clips the floats to 0..1; .tiff keeps them", target, kind)
    if kind == "PNG":
        return to_depth(pixels, np.uint16)
    log.warning("%s: %s holds 8 bits a channel, the picture has more; .png keeps 16", target, kind)
    return to_depth(pixels, np.uint8)
