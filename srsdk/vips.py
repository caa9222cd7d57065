"""libvips, an extra: pictures of more than 8 bits a channel, and pictures larger than memory."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from srsdk.colour import srgb_profile
from srsdk.errors import PictureError, SrsdkError
from srsdk.metadata import Carried, png_chunks
from srsdk.metadata import upright as upright_tags
from srsdk.tiles import Array

log = logging.getLogger("srsdk")

EXTRA = "pip install 'srsdk[vips]'"
_ICC, _EXIF, _XMP = "icc-profile-data", "exif-data", "xmp-data"
_PNG_HEAD_BYTES = 8 + 25
"""Signature and IHDR."""


def installed() -> bool:
    """Say whether libvips can be found, without importing it."""
    return importlib.util.find_spec("pyvips") is not None


def load(why: str) -> Any:
    """Import pyvips.

    Raises:
        PictureError: it is not installed; `why` says what for it is needed.
    """
    try:
        import pyvips
    except (ImportError, OSError) as error:
        raise PictureError(f"{why}: {EXTRA}") from error
    return pyvips


@contextmanager
def translated(what: str, kind: type[SrsdkError] = PictureError) -> Iterator[None]:
    """Turn what libvips raises into ours, keeping the cause."""
    import pyvips

    try:
        yield
    except pyvips.Error as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise kind(f"{what}: {'; '.join(lines[-2:]) or error!r}") from error


def read(path: Path) -> tuple[Array, Carried]:
    """Decode a whole file, upright: (H, W, C) of 1 to 4 channels, as deep as it is.

    Raises:
        PictureError: no extra, damaged, or numbers that are no pixels.
    """
    vips = load(f"{path} holds more than 8 bits a channel, which Pillow cannot read")
    with translated(f"{path} is damaged or cannot be read"):
        image = upright(_open(vips, path))
        carried = carried_of(image)
        image, carried = as_pixels(image, carried)
        array: Array = image.numpy()
    return (array[..., None] if array.ndim == 2 else array), carried


def open_rows(path: Path) -> Any:
    """Open a file that is read from top to bottom, upright; damage is an error when it is met.

    Raises:
        PictureError: no extra, or no picture.
    """
    vips = load(f"{path} is streamed")
    with translated(f"{path} is damaged or cannot be read"):
        return upright(_open(vips, path))


def _open(vips: Any, path: Path) -> Any:
    # as a source: libvips reads options out of the end of a file's name, and wants UTF-8
    source = vips.Source.new_from_file(os.fsencode(path))
    # by default libvips fills what is missing with black, without an error
    return vips.Image.new_from_source(source, "", access="sequential", fail_on="error")


def is_tiff(path: Path) -> bool:
    """Say whether a file begins as TIFF and BigTIFF do, in either byte order."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def shape_of(path: Path) -> tuple[tuple[int, int, int], str]:
    """Return (height, width, channels) and dtype of a file, upright, without decoding it.

    Raises:
        PictureError: no extra, or no picture.
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
    """Apply the orientation; where rows change places the source is kept in memory."""
    if orientation(image) > 1:
        return image.copy_memory().autorot()
    return image


def orientation(image: Any) -> int:
    """Return EXIF's orientation, 1 where there is none."""
    return int(image.get("orientation")) if image.get_typeof("orientation") else 1


def as_pixels(image: Any, carried: Carried) -> tuple[Any, Carried]:
    """Return grey or RGB, with alpha or not, of uint8, uint16 or float32.

    Raises:
        PictureError: another number of channels, or of another kind.
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
    """Collect what stands beside the pixels of a picture that `upright` has turned."""

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
        # a millimetre per pixel is libvips' word for "not known"
        dpi=(image.xres * 25.4, image.yres * 25.4) if image.xres not in (0, 1) else None,
    )


def from_bands(array: Array) -> Any:
    """Return an image of (H, W, C) with the interpretation that its channels have."""
    import pyvips

    image = pyvips.Image.new_from_array(np.ascontiguousarray(array))
    return image.copy(interpretation=interpretation(array.shape[2], array.dtype))


def interpretation(bands: int, dtype: np.dtype[Any]) -> str:
    """Return what libvips calls such pixels."""
    if dtype == np.uint16:
        return "grey16" if bands < 3 else "rgb16"
    return "b-w" if bands < 3 else "srgb"


def write(image: Any, target: Path, kind: str, carried: Carried, quality: dict[str, Any]) -> None:
    """Encode an image of libvips, row by row where the format allows.

    Args:
        image: what is written; it may be computed as it is read.
        target: the file.
        kind: `PNG`, `TIFF` or `JPEG`.
        carried: what stands beside the pixels.
        quality: `Q` and `subsample_mode` of a JPEG.
    """
    image = _with_metadata(image, carried)
    if kind == "PNG":
        with target.open("wb") as file:
            # nearly as small as with all filters, for half of their time
            image.pngsave_target(_png_target(file, carried), keep="none", filter="up")
    elif kind == "TIFF":
        if carried.exif:
            log.warning("%s: libvips writes no EXIF into TIFF files; it is dropped", target)
        image.tiffsave(
            os.fsencode(target),
            compression="deflate",
            predictor="float" if image.format == "float" else "horizontal",
            # no file of 4 GB and more fits into the classic form
            bigtiff=image.width * image.height * image.bands >= 1 << 31,
            keep="icc:xmp",
        )
    else:
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
    """Return a target that puts our chunks behind IHDR; libvips would not write all of them."""
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
