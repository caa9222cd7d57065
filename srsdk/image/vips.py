"""libvips (an extra) for pictures of more than 8 bits per channel or larger than memory."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from srsdk.errors import PictureError, SrsdkError
from srsdk.image.arrays import Array
from srsdk.image.color import srgb_profile
from srsdk.image.metadata import Carried, png_chunks
from srsdk.image.metadata import upright as upright_tags
from srsdk.image.streams import Memory, Source

log = logging.getLogger("srsdk")

EXTRA = "pip install 'srsdk[vips]'"
_ICC, _EXIF, _XMP = "icc-profile-data", "exif-data", "xmp-data"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LOADERS = (
    (b"\x89PNG", "pngload_source"),
    (b"\xff\xd8", "jpegload_source"),
    *((magic, "tiffload_source") for magic in _TIFF),
)
"""First bytes of a file, and libvips' loader."""
_PNG_HEAD_BYTES = 8 + 25
"""Signature and IHDR."""


def installed() -> bool:
    """Return whether pyvips is installed, without importing it."""
    return importlib.util.find_spec("pyvips") is not None


def load(why: str) -> Any:
    """Import pyvips.

    Raises:
        PictureError: it is not installed; `why`, the reason it is needed, begins the message.
    """
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise PictureError(f"{why}: {EXTRA}") from error
    return pyvips


@contextmanager
def translated(what: str, kind: type[SrsdkError] = PictureError) -> Iterator[None]:
    """Translate libvips errors to ours, keeping the cause."""
    import pyvips

    try:
        yield
    except pyvips.Error as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise kind(f"{what}: {'; '.join(lines[-2:]) or error!r}") from error


def read(path: Source) -> tuple[Array, Carried]:
    """Decode a whole file, upright, to (H, W, C) of 1 to 4 channels at its own depth.

    Raises:
        PictureError: libvips is not installed, the file is damaged, or its numbers are not pixels.
    """
    vips = load(f"{path} holds more than 8 bits per channel, which Pillow cannot read")
    with translated(f"{path} is damaged or cannot be read"):
        image = upright(_open(vips, path))
        carried = carried_of(image)
        image, carried = as_pixels(image, carried)
        array: Array = image.numpy()
    return (array[..., None] if array.ndim == 2 else array), carried


def open_rows(path: Source) -> Any:
    """Open a file to be read from top to bottom, upright; damage raises when it is reached.

    Raises:
        PictureError: libvips is not installed, or the file is not a picture.
    """
    vips = load(f"{path} has to be streamed")
    with translated(f"{path} is damaged or cannot be read"):
        return upright(_open(vips, path))


def _open(vips: Any, path: Source) -> Any:
    with path.open("rb") as file:
        head = file.read(4)
    # a loader by name: left to itself, libvips may choose one that runs other programs
    loader = next((name for magic, name in _LOADERS if head.startswith(magic)), None)
    if loader is None:
        raise PictureError(
            f"{path} is not a PNG, TIFF or JPEG file, the only ones read with more than 8 bits"
        )
    # a source, because in file names libvips parses options at the end and requires UTF-8
    if isinstance(path, Memory):
        source = vips.Source.new_from_memory(path.data)
    else:
        source = vips.Source.new_from_file(os.fsencode(path))
    # by default libvips fills missing pixels with black, without an error
    return getattr(vips.Image, loader)(source, access="sequential", fail_on="error")


def is_tiff(path: Source) -> bool:
    """Return whether a file starts like TIFF or BigTIFF, in either byte order."""
    with path.open("rb") as file:
        return file.read(4) in _TIFF


def shape_of(path: Source) -> tuple[tuple[int, int, int], str]:
    """Return (height, width, channels) and dtype of a file, upright, without decoding it.

    Raises:
        PictureError: libvips is not installed, or the file is not a picture.
    """
    vips = load(f"{path} holds pixels that Pillow cannot read")
    with translated(f"{path} is damaged or cannot be read"):
        image = _open(vips, path)
        if orientation(image) > 1:
            image = image.autorot()
        image, _ = as_pixels(image, Carried())
    dtype = {"uchar": "uint8", "ushort": "uint16", "float": "float32"}[image.format]
    return (image.height, image.width, image.bands), dtype


def upright(image: Any) -> Any:
    """Apply the EXIF orientation; a rotated source is copied to memory first."""
    if orientation(image) > 1:
        return image.copy_memory().autorot()
    return image


def orientation(image: Any) -> int:
    """Return the EXIF orientation, 1 if there is none."""
    return int(image.get("orientation")) if image.get_typeof("orientation") else 1


def as_pixels(image: Any, carried: Carried) -> tuple[Any, Carried]:
    """Convert to gray or RGB, with or without alpha, of uint8, uint16 or float32.

    Raises:
        PictureError: an unsupported number of channels or number format.
    """
    if image.interpretation in ("cmyk", "lab", "labs", "labq", "xyz"):
        space = "rgb16" if image.format == "ushort" or image.interpretation != "cmyk" else "srgb"
        if image.interpretation == "cmyk":
            depth = 16 if space == "rgb16" else 8
            image = image.icc_transform("srgb", embedded=True, depth=depth)
        else:
            image = image.colourspace(space)
        carried = Carried(srgb_profile(), carried.exif, carried.xmp, carried.dpi)
    if image.format == "double":
        image = image.cast("float")
    if image.format not in ("uchar", "ushort", "float"):
        raise PictureError(f"got {image.format} numbers, expected uint8, uint16 or floats")
    if not 1 <= image.bands <= 4:
        raise PictureError(f"got {image.bands} channels, expected 1 to 4")
    return image, carried


def carried_of(image: Any) -> Carried:
    """Collect the metadata of an image that `upright` has rotated."""

    def blob(name: str) -> bytes | None:
        return bytes(image.get(name)) if image.get_typeof(name) else None

    exif = blob(_EXIF)
    if exif is not None and not exif.startswith(b"Exif"):
        exif = b"Exif\0\0" + exif
    exif, xmp = upright_tags(exif, blob(_XMP))
    return Carried(
        icc=blob(_ICC),
        exif=exif,
        xmp=xmp,
        # libvips reports 1 pixel per millimeter if the resolution is unknown
        dpi=(image.xres * 25.4, image.yres * 25.4) if image.xres not in (0, 1) else None,
    )


def from_bands(array: Array) -> Any:
    """Return a libvips image of (H, W, C) with the interpretation for its channels."""
    import pyvips

    image = pyvips.Image.new_from_array(np.ascontiguousarray(array))
    return image.copy(interpretation=interpretation(array.shape[2], array.dtype))


def interpretation(bands: int, dtype: np.dtype[Any]) -> str:
    """Return libvips' interpretation of such pixels."""
    if dtype == np.uint16:
        return "grey16" if bands < 3 else "rgb16"
    return "b-w" if bands < 3 else "srgb"


def write(
    image: Any, target: Path | io.BytesIO, kind: str, carried: Carried, quality: dict[str, Any]
) -> None:
    """Encode a libvips image, row by row if the format allows.

    Args:
        image: the image; it may be computed while it is written.
        target: the file; in memory only PNG and TIFF.
        kind: `PNG`, `TIFF` or `JPEG`.
        carried: the metadata.
        quality: `Q` and `subsample_mode` of a JPEG.
    """
    image = _with_metadata(image, carried)
    if kind == "PNG":
        with nullcontext(target) if isinstance(target, io.BytesIO) else target.open("wb") as file:
            # nearly as small as with all filters, in half the time
            image.pngsave_target(_png_target(file, carried), keep="none", filter="up")
    elif kind == "TIFF":
        if carried.exif:
            log.warning("%s: libvips cannot write EXIF to TIFF files; it is dropped", target)
        saved = {
            "compression": "deflate",
            "predictor": "float" if image.format == "float" else "horizontal",
            # classic TIFF files are limited to 4 GB
            "bigtiff": image.width * image.height * image.bands >= 1 << 31,
            "keep": "icc:xmp",
        }
        if isinstance(target, io.BytesIO):
            target.write(image.tiffsave_buffer(**saved))
        else:
            image.tiffsave(os.fsencode(target), **saved)
    else:
        assert isinstance(target, Path)
        image.jpegsave(os.fsencode(target), keep="icc:exif:xmp", **quality)


def _with_metadata(image: Any, carried: Carried) -> Any:
    from pyvips import GValue

    result = image.copy()
    for name in result.get_fields():
        if name in (_ICC, _EXIF, _XMP, "iptc-data", "orientation"):
            result.remove(name)
    for name, value in ((_ICC, carried.icc), (_EXIF, carried.exif), (_XMP, carried.xmp)):
        if value:
            result.set_type(GValue.blob_type, name, value)
    if carried.dpi:
        result = result.copy(xres=carried.dpi[0] / 25.4, yres=carried.dpi[1] / 25.4)
    return result


def _png_target(file: Any, carried: Carried) -> Any:
    """Return a target that inserts our chunks after IHDR; libvips would not write all of them."""
    import pyvips

    waiting: list[bytes] = [b""]

    def on_write(data: bytes) -> int:
        if not waiting:
            return int(file.write(data))
        head = waiting[0] + bytes(data)
        waiting[0] = head
        if len(head) >= _PNG_HEAD_BYTES:
            file.write(head[:_PNG_HEAD_BYTES] + png_chunks(carried) + head[_PNG_HEAD_BYTES:])
            waiting.clear()
        return len(data)

    target = pyvips.TargetCustom()
    target.on_write(on_write)
    return target
