"""Decode picture files, and read their headers without decoding."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from srsdk import budget as budgets
from srsdk.budget import Budget
from srsdk.errors import PictureError, SrsdkError
from srsdk.image import headers, plugins, vips
from srsdk.image.encode import check_target, write
from srsdk.image.metadata import carried_of, orientation
from srsdk.image.pixels import Pixels, from_array, from_bands, from_image, to_array, to_image
from srsdk.image.streams import Memory, Source

__all__ = [
    "Header",
    "Pixels",
    "check_target",
    "from_array",
    "from_bands",
    "from_image",
    "from_pillow",
    "opened",
    "probe",
    "read",
    "to_array",
    "to_image",
    "to_pillow",
    "write",
]

log = logging.getLogger("srsdk")

TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap height and width."""

DECODED_BYTES = 8
"""Memory per pixel and byte of depth: Pillow stores a color pixel in 4, the array is a copy."""

_SEVERAL = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
_RAISE_LIMIT = "If you trust this file, raise the limit: PIL.Image.MAX_IMAGE_PIXELS"


@dataclass(frozen=True)
class Header:
    """Properties of a picture file, known before it is decoded."""

    kind: str
    """Format, by Pillow's name."""
    height: int
    """Height of the upright picture."""
    width: int
    """Width of the upright picture."""
    dtype: str
    """`uint8`, `uint16` or `float32`."""
    has_alpha: bool
    """Whether it has, or may have, transparent parts."""
    frames: int
    """Number of frames or pages."""
    orientation: int
    """EXIF orientation; 1: stored upright."""
    by_vips: bool
    """Whether libvips decodes it: Pillow cannot, or would reduce it to 8 bits."""
    sizes: tuple[tuple[int, int], ...] = ()
    """(height, width) of all frames or pages, if there are several."""


def probe(
    path: Source, *, limit_bytes: int | None = None, budget: Budget = budgets.DEFAULT
) -> Header:
    """Read a file's header without decoding its pixels.

    Args:
        path: the file.
        limit_bytes: memory limit of this picture; None: only that of the budget.
        budget: limits on pixels, pages and memory, which every page has to keep.

    Raises:
        PictureError: missing, a folder, not a picture, above Pillow's pixel limit or the budget's.
    """

    def check_memory(need_bytes: int) -> None:
        budget.check_memory(need_bytes, limit_bytes)

    try:
        return _header(path, check_memory, budget)
    except _UnknownToPillow as error:
        if "TIFF" not in budget.formats or not vips.is_tiff(path):
            raise PictureError(str(error)) from error.__cause__
        header = _header_by_vips(path)
        budget.check_size(header.height, header.width)
        return header


def _header(path: Source, check_memory: Callable[[int], None], budget: Budget) -> Header:
    def check(height: int, width: int) -> None:
        budget.check_size(height, width)
        check_memory(height * width * DECODED_BYTES)

    def check_early() -> None:
        headers.check_early(path, check, check_memory)

    with opened(path, check_early, budget.formats) as image:
        turned = orientation(image, path)
        width, height = image.size[::-1] if turned in TURNED else image.size
        budget.check_size(height, width)
        if image.format in ("JPEG", "MPO"):
            headers.check_jpeg(path)
        deep = _depth(image)
        frames = _frames(image)
        budget.check_pages(frames)
        sizes = _sizes(image, frames, check)
        return Header(
            image.format or "",
            height,
            width,
            deep,
            image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info,
            frames,
            turned,
            _needs_vips(image),
            sizes,
        )


def read(
    path: Source, *, limit_bytes: int | None = None, budget: Budget = budgets.DEFAULT
) -> Pixels:
    """Decode one file and apply its EXIF orientation.

    Args:
        path: the file.
        limit_bytes: memory limit of this picture; None: only that of the budget.
        budget: limits on pixels, pages and memory.

    Raises:
        PictureError: missing, a folder, not a picture, damaged, of an unsupported kind, more than 8
            bits per color channel without libvips, or larger than memory.
    """
    header = probe(path, limit_bytes=limit_bytes, budget=budget)
    budget.check_memory(decoded_bytes(header), limit_bytes)
    if header.frames > 1:
        raise PictureError(f"{path}: got {header.frames} frames, expected a single picture")
    if header.by_vips:
        array, carried = vips.read(path)
        return from_bands(array, carried)
    with opened(path, formats=budget.formats) as image:
        return _decoded(image, path)


def from_pillow(image: Image.Image) -> Pixels:
    """Decode a Pillow image that may not have been loaded, and apply its EXIF orientation.

    Raises:
        PictureError: damaged, closed, or of an unsupported mode.
    """
    name = str(getattr(image, "filename", "") or "the picture")
    try:
        image.load()
        turned = orientation(image, None)
        upright = ImageOps.exif_transpose(image) if turned > 1 else image
        pixels = from_image(upright)
        carried = carried_of(upright)
        return replace(pixels, carried=replace(carried, icc=pixels.carried.icc or carried.icc))
    except SrsdkError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"{name} is too large: {error} {_RAISE_LIMIT}") from error
    except Exception as error:
        # on damaged files Pillow's decoders raise exceptions of many types
        raise PictureError(f"{name} is damaged or cannot be read: {error}") from error


def to_pillow(pixels: Pixels, like: Image.Image) -> Image.Image:
    """Return a result as a Pillow image with the metadata of its source, in `info`.

    As after Pillow's own `resize`: `save(..., exif=image.getexif(), icc_profile=..., dpi=...)`
    writes it.

    Raises:
        PictureError: colors of more than 8 bits, which no Pillow image can hold.
    """
    image = to_image(pixels)
    carried = pixels.carried.resized(pixels.width, pixels.height)
    image.info = {key: value for key, value in like.info.items() if key not in _REPLACED}
    kept = {"icc_profile": carried.icc, "exif": carried.exif, "xmp": carried.xmp}
    image.info.update({key: value for key, value in kept.items() if value})
    return image


_REPLACED = (
    *("icc_profile", "exif", "xmp", "transparency"),
    *("XML:com.adobe.xmp", "Raw profile type exif"),
)
"""What a Pillow image's `info` no longer holds in this form after upscaling."""


def decoded_bytes(header: Header) -> int:
    """Return the memory that decoding a file's first picture takes."""
    return header.height * header.width * DECODED_BYTES * np.dtype(header.dtype).itemsize


class _UnknownToPillow(PictureError):  # noqa: N818 - a kind of PictureError, for this file only
    pass


def _header_by_vips(path: Source) -> Header:
    """Read the header of a TIFF whose pixels Pillow does not support, such as RGB floats.

    Raises:
        PictureError: libvips is not installed, or cannot read it either.
    """
    shape, dtype = vips.shape_of(path)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and shape[0] * shape[1] > 2 * limit:
        raise PictureError(
            f"{path} is too large: {shape[0] * shape[1]} pixels exceed the limit of {2 * limit}. "
            f"{_RAISE_LIMIT}"
        )
    return Header("TIFF", shape[0], shape[1], dtype, shape[2] in (2, 4), 1, 1, True)


@contextmanager
def opened(
    path: Source, check: Callable[[], None] | None = None, formats: Sequence[str] = budgets.FORMATS
) -> Iterator[Image.Image]:
    """Open a file with Pillow; translate every error raised while it is open to `PictureError`.

    Args:
        path: the file.
        check: called before Pillow opens the file; None: the file has been checked.
        formats: those to decode, by Pillow's names.
    """
    try:
        if isinstance(path, Path) and (irregular := _irregularity(path)):
            raise _Irregular(irregular)
        if check is not None:
            check()
        file = path.open() if isinstance(path, Memory) else path
        with Image.open(file, formats=_registered(path, formats)) as image:
            yield image
    except FileNotFoundError:
        raise PictureError(f"{path}: no such file") from None
    except _Irregular as error:
        raise PictureError(str(error)) from None
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from error
    except (SrsdkError, CancelledError):
        raise  # a deadline or a cancellation while the file is open is no damage
    except UnidentifiedImageError as error:
        raise _UnknownToPillow(
            f"{path} is not a picture that Pillow can read, or not of these formats: "
            f"{', '.join(formats)}"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"{path} is too large: {error} {_RAISE_LIMIT}") from error
    except Exception as error:
        # on damaged files Pillow's decoders raise exceptions of many types
        raise PictureError(f"{path} is damaged or cannot be read: {error}") from error


class _Irregular(Exception):  # noqa: N818 - for this file only
    pass


def _registered(path: Source, formats: Sequence[str]) -> list[str]:
    Image.init()
    with path.open("rb") as file:
        plugins.prepare(file, formats)
    return [name for name in formats if name in Image.OPEN]


def _irregularity(path: Path) -> str:
    """Return why a path is no file to decode, or ""."""
    if path.is_dir():
        return f"{path} is a folder, expected a picture file"
    if path.exists() and not path.is_file():
        # opening a pipe without a writer blocks forever
        return f"{path} is not a regular file, expected a picture file"
    return ""


def _decoded(image: Image.Image, path: Source) -> Pixels:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    pixels = from_image(image)
    carried = carried_of(image, path)
    # a converted CMYK picture carries its own sRGB profile
    return replace(pixels, carried=replace(carried, icc=pixels.carried.icc or carried.icc))


def _frames(image: Image.Image) -> int:
    # an MPO file, as phones write it, is a photograph followed by previews; the first "frame" of
    # a PSD file is the composite of its layers
    if image.format not in _SEVERAL:
        return 1
    return int(getattr(image, "n_frames", 1))


def _sizes(
    image: Image.Image, frames: int, check: Callable[[int, int], None]
) -> tuple[tuple[int, int], ...]:
    """Return (height, width) of all frames; the pages of a TIFF file may differ."""
    if frames == 1:
        return ()
    if image.format != "TIFF":
        return ((image.height, image.width),) * frames
    found = []
    for index in range(frames):
        image.seek(index)
        check(image.height, image.width)
        found.append((image.height, image.width))
    image.seek(0)
    return tuple(found)


def _needs_vips(image: Image.Image) -> bool:
    """Return whether Pillow would silently reduce 16 bits to 8."""
    return _has_deep_tiles(image) and not image.mode.startswith("I")


def _has_deep_tiles(image: Image.Image) -> bool:
    return any(";16" in str(part) for part in getattr(image, "tile", ()))


def _depth(image: Image.Image) -> str:
    if image.mode == "F":
        return "float32"
    return "uint16" if image.mode.startswith("I") or _has_deep_tiles(image) else "uint8"
