"""Decoding picture files: what goes in, and what is known before it does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from srsdk import memory, vips
from srsdk.encode import check_target, write
from srsdk.errors import PictureError
from srsdk.metadata import carried_of, orientation
from srsdk.pixels import (
    Pixels,
    from_array,
    from_bands,
    from_image,
    to_array,
    to_image,
)

__all__ = [
    "Header",
    "Pixels",
    "check_target",
    "from_array",
    "from_bands",
    "from_image",
    "opened",
    "probe",
    "read",
    "to_array",
    "to_image",
    "write",
]

log = logging.getLogger("srsdk")

TURNED = (5, 6, 7, 8)
"""Orientations that exchange height and width."""

_SEVERAL = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")


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
        turned = orientation(image, path)
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
    try:
        _check_regular(path)
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except _Irregular:
        raise
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


class _Irregular(PictureError):  # noqa: N818 - a kind of PictureError, for this file only
    pass


def _check_regular(path: Path) -> None:
    if path.is_dir():
        raise _Irregular(f"{path} is a folder, expected a picture file")
    if path.exists() and not path.is_file():
        # opening a pipe that nobody writes into never ends
        raise _Irregular(f"{path} is no regular file, expected a picture file")


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
