"""Picture metadata (ICC, EXIF, XMP, DPI, texts): read it from a file, write it to another."""

from __future__ import annotations

import logging
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin

from srsdk.image.streams import Place, Source

log = logging.getLogger("srsdk")

Chunk = tuple[bytes, bytes]
"""Type and data of a PNG chunk."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
_XMP_KEY = "XML:com.adobe.xmp"
_XMP_TAG = 700
# tags that describe how a TIFF file stores its pixels; the target file has its own
_STORAGE_TAGS = frozenset(
    [
        *(*range(254, 267), 273, 274, *range(277, 285), 292, 293, 296, 297, 301),
        *(*range(317, 326), 330, *range(332, 342), 347, *range(512, 522), *range(529, 533)),
        *(700, 34675),
    ]
)


@dataclass(frozen=True)
class Carried:
    """Metadata carried from the source file to the target file, as far as the format allows."""

    icc: bytes | None = None
    """ICC profile: the color space of the pixels."""
    exif: bytes | None = None
    """EXIF, with the prefix `Exif` and two zero bytes, without orientation and thumbnail."""
    xmp: bytes | None = None
    """XMP packet."""
    dpi: tuple[float, float] | None = None
    """Resolution in dots per inch, (horizontal, vertical)."""
    comment: bytes | None = None
    """Comment of a JPEG or GIF file."""
    texts: dict[str, str] = field(default_factory=dict)
    """Text entries of a PNG file, by keyword."""
    color_chunks: tuple[Chunk, ...] = ()
    """cICP, sRGB, gAMA and cHRM of a PNG file without an ICC profile."""
    jpeg_tables: dict[str, Any] = field(default_factory=dict)
    """`qtables` and `subsampling` of a JPEG file, as Pillow expects them."""

    def resized(self, width: int, height: int) -> Carried:
        """Return this with the picture's new size in its EXIF, if the EXIF has a size."""
        if self.exif is None:
            return self
        exif = Image.Exif()
        exif.load(self.exif)
        photo = exif.get_ifd(ExifTags.IFD.Exif)
        for tag, value in (
            (ExifTags.Base.ExifImageWidth, width),
            (ExifTags.Base.ExifImageHeight, height),
        ):
            if tag in photo:
                photo[tag] = value
        return replace(self, exif=exif.tobytes())


def upright(exif: bytes | None, xmp: bytes | None) -> tuple[bytes | None, bytes | None]:
    """Return EXIF and XMP without the orientation, which has been applied."""
    if exif is not None:
        tags = Image.Exif()
        tags.load(exif)
        for tag in [tag for tag in tags if tag in _STORAGE_TAGS]:
            del tags[tag]
        exif = tags.tobytes() if len(tags) else None
    return exif, _upright_xmp(xmp)


def carried_of(image: Image.Image, path: Source | None = None) -> Carried:
    """Collect the metadata of a Pillow image whose orientation has been applied.

    Args:
        image: loaded, so that metadata after the pixels is known too.
        path: its file, for metadata that Pillow does not keep; None: no file.
    """
    info = image.info
    texts = {k: str(v) for k, v in getattr(image, "text", {}).items() if k != _XMP_KEY}
    icc = info.get("icc_profile") or None
    chunks: tuple[Chunk, ...] = ()
    if image.format == "PNG" and icc is None and path is not None:
        chunks = tuple(png_chunks_of(path, _COLOR_CHUNKS))
    comment = info.get("comment")
    xmp = info.get("xmp")
    return Carried(
        icc,
        _exif(image),
        _upright_xmp(xmp.encode() if isinstance(xmp, str) else xmp),
        _dpi(info.get("dpi")),
        comment.encode() if isinstance(comment, str) else comment,
        texts,
        chunks,
        _jpeg_tables(image),
    )


def pillow_options(carried: Carried, kind: str) -> dict[str, Any]:
    """Return the options of Pillow's `save` for a format such as `JPEG`."""
    options: dict[str, Any] = {}
    if carried.icc and kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "JPEG2000"):
        options["icc_profile"] = carried.icc
    if carried.exif and kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "MPO"):
        options["exif"] = carried.exif
    if carried.dpi and kind in ("JPEG", "PNG", "TIFF", "BMP"):
        options["dpi"] = carried.dpi
    if carried.xmp and kind in ("JPEG", "WEBP", "AVIF"):
        options["xmp"] = carried.xmp
    if carried.xmp and kind == "TIFF":
        # Pillow takes the tags of a TIFF from one argument only
        tags = Image.Exif()
        tags.load(carried.exif or b"")
        tags[_XMP_TAG] = carried.xmp
        options["exif"] = tags
    if carried.comment and kind in ("JPEG", "GIF"):
        options["comment"] = carried.comment
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        for name, data in png_texts(carried):
            info.add(name, data)
        options["pnginfo"] = info
    return options


def png_texts(carried: Carried) -> list[Chunk]:
    """Return the PNG chunks for color, texts and XMP."""
    info = PngImagePlugin.PngInfo()
    for key, text in carried.texts.items():
        info.add_itxt(key, text)
    if carried.xmp:
        info.add_itxt(_XMP_KEY, carried.xmp.decode("utf-8", "replace"))
    return [*carried.color_chunks, *((chunk[0], chunk[1]) for chunk in info.chunks)]


def png_chunks(carried: Carried) -> bytes:
    """Return all metadata as the bytes that follow a PNG file's IHDR."""
    chunks: list[Chunk] = []
    if carried.icc:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(carried.icc)))
    chunks += png_texts(carried)
    if carried.dpi:
        per_meter = (int(value / 0.0254 + 0.5) for value in carried.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", *per_meter, 1)))
    if carried.exif:
        chunks.append((b"eXIf", carried.exif.removeprefix(b"Exif\0\0")))
    return b"".join(png_chunk(name, data) for name, data in chunks)


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Return one chunk of a PNG file (https://www.w3.org/TR/png-3/)."""
    checksum = zlib.crc32(data, zlib.crc32(name))
    return b"".join((struct.pack(">I", len(data)), name, data, struct.pack(">I", checksum)))


def warn_of_loss(carried: Carried, target: Place, kind: str) -> None:
    """Warn about metadata that the target's format cannot hold."""
    holds = {
        "ICC profile": (carried.icc, ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "JPEG2000")),
        "EXIF": (carried.exif, ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "MPO")),
        "XMP": (carried.xmp, ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")),
        "PNG texts": (carried.texts, ("PNG",)),
        "PNG color chunks": (
            [name for name, _ in carried.color_chunks if name != b"sRGB"],
            ("PNG",),
        ),
    }
    lost = [name for name, (value, formats) in holds.items() if value and kind not in formats]
    if lost:
        log.warning("%s: %s cannot hold the source's %s", target, kind, ", ".join(lost))


def _upright_xmp(xmp: bytes | None) -> bytes | None:
    pattern = rb'\s*tiff:Orientation="\d"|<tiff:Orientation>\d</tiff:Orientation>'
    return None if xmp is None else re.sub(pattern, b"", xmp)


def _exif(image: Image.Image) -> bytes | None:
    exif = image.getexif()
    exif.bigtiff = False  # EXIF is a classic TIFF, whatever file it comes from
    for table in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        exif.get_ifd(table)  # for a TIFF file, tables that were not read would not be written
    for tag in [tag for tag in exif if tag in _STORAGE_TAGS]:
        del exif[tag]
    return exif.tobytes() if len(exif) else None


def _dpi(value: Any) -> tuple[float, float] | None:
    if not value:
        return None
    horizontal, vertical = (float(part) for part in value)
    return (horizontal, vertical) if horizontal > 0 and vertical > 0 else None


def _jpeg_tables(image: Image.Image) -> dict[str, Any]:
    tables = getattr(image, "quantization", None)
    if image.format not in ("JPEG", "MPO") or not tables:
        return {}
    sampling = JpegImagePlugin.get_sampling(image)
    return {"qtables": dict(tables), "subsampling": sampling if sampling >= 0 else 0}


def png_chunks_of(path: Source, names: tuple[bytes, ...]) -> Iterator[Chunk]:
    """Yield the chunks with these names, skipping the pixels."""
    with path.open("rb") as file:
        if file.read(8) != _PNG_SIGNATURE:
            return
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name in names:
                yield name, file.read(length)
                length = 0
            file.seek(length + 4, os.SEEK_CUR)


def orientation(image: Image.Image, path: Source | None) -> int:
    """Return the EXIF orientation before the pixels are decoded; 1: upright."""
    if image.format != "PNG" or path is None:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    # Pillow would decode all pixels of a PNG to read the chunks after them
    exif = Image.Exif()
    for _, data in png_chunks_of(path, (b"eXIf",)):
        exif.load(data)
    return int(exif.get(ExifTags.Base.Orientation, 1))
