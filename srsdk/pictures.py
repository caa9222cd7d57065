"""Picture files: what goes in, what is kept, and that nothing half-written stays."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from srsdk import memory, vips
from srsdk.boundary import WHITE
from srsdk.errors import OutputError, PictureError, UsageError
from srsdk.metadata import Carried, carried_of, pillow_options, warn_of_loss
from srsdk.options import PictureOptions
from srsdk.pixels import (
    Pixels,
    from_array,
    from_bands,
    from_image,
    to_array,
    to_depth,
    to_image,
)

__all__ = [
    "Header",
    "Pixels",
    "check_target",
    "format_of",
    "from_array",
    "from_bands",
    "from_image",
    "opened",
    "probe",
    "read",
    "replacing",
    "save_options",
    "to_array",
    "to_image",
    "write",
    "write_pixels",
]

log = logging.getLogger("srsdk")

JPEG_QUALITY = 95
AVIF_QUALITY = 90
DEEP_FORMATS = ("PNG", "TIFF")
"""They hold 16 bits a channel; TIFF holds floats, too."""
NO_ALPHA = ("JPEG", "MPO", "PCX", "EPS", "PPM")
TURNED = (5, 6, 7, 8)
"""Orientations that exchange height and width."""

_SEVERAL = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Header:
    """What a file says of its picture before it is decoded."""

    kind: str
    """Format, in Pillow's words."""
    height: int
    """Of the upright picture."""
    width: int
    """Of the upright picture."""
    dtype: str
    """`uint8`, `uint16` or `float32`."""
    has_alpha: bool
    """Whether it has, or may have, transparent parts."""
    frames: int
    """More than 1: an animation, or pages."""
    orientation: int
    """EXIF's; 1: upright as it is stored."""
    by_vips: bool
    """Pillow cannot read it, or would reduce it to 8 bits."""


def probe(path: Path) -> Header:
    """Read what stands before the pixels.

    Raises:
        PictureError: missing, a folder, no picture, or over Pillow's limit.
    """
    try:
        return _header(path)
    except _UnknownToPillow:
        return _header_by_vips(path)


def _header(path: Path) -> Header:
    with opened(path) as image:
        turned = int(image.getexif().get(_ORIENTATION, 1))
        width, height = image.size[::-1] if turned in TURNED else image.size
        deep = _depth(image)
        return Header(
            image.format or "",
            height,
            width,
            deep,
            image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info,
            _frames(image),
            turned,
            _needs_vips(image),
        )


def read(path: Path, *, limit_bytes: int | None = None) -> Pixels:
    """Decode one file, the orientation of its EXIF applied.

    Args:
        path: the file.
        limit_bytes: of memory; None: what is available.

    Raises:
        PictureError: missing, a folder, no picture, damaged, of an unsupported kind, more than 8
            bits a channel of colour without libvips, or larger than memory.
    """
    header = probe(path)
    # Pillow keeps 4 bytes a pixel of colour; the array is a copy
    memory.check(header.height * header.width * 8 * _itemsize(header.dtype), limit_bytes)
    if header.frames > 1:
        raise PictureError(f"{path}: got {header.frames} frames, expected a single picture")
    if header.by_vips:
        array, carried = vips.read(path)
        return from_bands(array, carried)
    with opened(path) as image:
        return _decoded(image, path)


def write_pixels(pixels: Pixels, target: Path, options: PictureOptions | None = None) -> None:
    """Encode to a temporary name in the target's folder, then rename.

    Raises:
        OutputError: the disk is full, the format cannot hold the picture.
        PictureError: 16 bits a channel of colour without libvips.
    """
    kind = format_of(target)
    warn_of_loss(pixels.carried, target, kind)
    pixels = _as_deep_as(pixels, target, kind)
    carried = pixels.carried.resized(pixels.width, pixels.height)
    bands = pixels.bands()
    if bands.dtype == np.uint8 or bands.shape[2] == 1:
        with replacing(target) as temporary:
            to_image(pixels).save(
                temporary,
                **pillow_options(carried, kind),
                **save_options(kind, options or PictureOptions(), carried),
            )
        return
    vips.load(f"{target} is to hold {bands.dtype} colours, which Pillow cannot write")
    with replacing(target) as temporary, vips.translated(str(target), OutputError):
        vips.write(vips.from_bands(bands), temporary, kind, carried, {})


def write(image: Image.Image, target: Path, carried: dict[str, Any]) -> None:
    """Encode a Pillow image to a temporary name in the target's folder, then rename.

    Raises:
        OutputError: the disk is full, the format cannot hold the picture.
    """
    options = dict(carried) | save_options(format_of(target), PictureOptions(), Carried())
    with replacing(target) as temporary:
        image.save(temporary, **options)


def check_target(target: Path, *, overwrite: bool, options: PictureOptions | None = None) -> None:
    """Refuse a target that cannot be written, before any work.

    Raises:
        OutputError: unknown format, no such folder, not writable, or it exists.
        UsageError: an option that its format does not know.
    """
    Image.init()
    suffix = target.suffix.lower()
    if Image.EXTENSION.get(suffix) not in Image.SAVE:
        raise OutputError(f"{target}: {suffix or 'no suffix'!r} is no picture format to write")
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"{folder} is no folder to write to")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder} cannot be written to")
    if target.is_dir():
        raise OutputError(f"{target} is a folder, expected a file name")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; --force (API: overwrite=True) replaces it")
    if options is not None and options.quality == "lossless":
        lossy = format_of(target)
        if lossy in ("JPEG", "AVIF", "JPEG2000"):
            raise UsageError(f"{target}: {lossy} is lossy; .webp, .png and .tiff are not")


def without_alpha(pixels: Pixels) -> Pixels:
    """Drop an opaque alpha, for a format that holds none.

    Raises:
        OutputError: parts are transparent.
    """
    if pixels.alpha is None or pixels.alpha.min() == WHITE[pixels.alpha.dtype.name]:
        return replace(pixels, alpha=None)
    raise OutputError(
        "the picture is transparent in parts, which JPEG cannot hold; "
        ".png, .webp, .avif and .tiff do"
    )


def format_of(target: Path) -> str:
    """Return the format that the suffix names, in Pillow's words."""
    Image.init()
    return Image.EXTENSION[target.suffix.lower()]


def save_options(kind: str, options: PictureOptions, carried: Carried) -> dict[str, Any]:
    """Return how Pillow shall encode a format."""
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
    return {"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary name in the target's folder, and rename it when all went well.

    Raises:
        OutputError: the disk is full, the format cannot hold the picture.
    """
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    except (OSError, ValueError) as error:
        raise OutputError(f"{target} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _as_deep_as(pixels: Pixels, target: Path, kind: str) -> Pixels:
    """Reduce what the format cannot hold, and say so."""
    dtype = pixels.rgb.dtype
    if dtype == np.uint8 or (kind == "TIFF") or (kind == "PNG" and dtype == np.uint16):
        return pixels
    if dtype == np.float32 and (pixels.rgb.min() < 0 or pixels.rgb.max() > 1):
        log.warning("%s: %s clips the floats to 0..1; .tiff keeps them", target, kind)
    if kind == "PNG":
        return to_depth(pixels, np.uint16)
    log.warning("%s: %s holds 8 bits a channel, the picture has more; .png keeps 16", target, kind)
    return to_depth(pixels, np.uint8)


class _UnknownToPillow(PictureError):  # noqa: N818 - a kind of PictureError, for this file only
    pass


def _header_by_vips(path: Path) -> Header:
    """Look at a TIFF whose kind of pixels Pillow does not know, such as floats of three channels.

    Raises:
        PictureError: no TIFF, or libvips is not there.
    """
    if not vips.is_tiff(path):
        raise PictureError(f"{path} is not a picture that Pillow can read")
    shape, dtype = vips.shape_of(path)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and shape[0] * shape[1] > 2 * limit:
        raise PictureError(
            f"{path} is too large: {shape[0] * shape[1]} pixels exceed the limit of {2 * limit}: "
            "--max-pixels, or PIL.Image.MAX_IMAGE_PIXELS in an application"
        )
    return Header("TIFF", shape[0], shape[1], dtype, shape[2] in (2, 4), 1, 1, True)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open with Pillow, and turn everything that goes wrong while it is open into ours."""
    if path.is_dir():
        raise PictureError(f"{path} is a folder, expected a picture file")
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from error
    except UnidentifiedImageError as error:
        raise _UnknownToPillow(f"{path} is not a picture that Pillow can read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(
            f"{path} is too large: {error} One who trusts it raises the limit: --max-pixels, or "
            "PIL.Image.MAX_IMAGE_PIXELS in an application"
        ) from error
    except Exception as error:
        # a damaged file makes Pillow's many decoders raise whatever they stumble over
        raise PictureError(f"{path} is damaged or cannot be read: {error}") from error


def _decoded(image: Image.Image, path: Path) -> Pixels:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    pixels = from_image(image)
    carried = carried_of(image, path)
    # CMYK has become sRGB, and says so itself
    return replace(pixels, carried=replace(carried, icc=pixels.carried.icc or carried.icc))


def _frames(image: Image.Image) -> int:
    # MPO is a photograph with previews behind it, as telephones write them; of the layers of a
    # PSD file the first "frame" is the whole
    if image.format not in _SEVERAL:
        return 1
    return int(getattr(image, "n_frames", 1))


def _needs_vips(image: Image.Image) -> bool:
    """Say whether Pillow would reduce 16 bits to 8 in silence."""
    return _has_deep_tiles(image) and not image.mode.startswith("I;16")


def _has_deep_tiles(image: Image.Image) -> bool:
    return any(";16" in str(part) for part in getattr(image, "tile", ()))


def _depth(image: Image.Image) -> str:
    if image.mode == "F":
        return "float32"
    return "uint16" if image.mode.startswith("I") or _has_deep_tiles(image) else "uint8"


def _itemsize(dtype: str) -> int:
    return np.dtype(dtype).itemsize
