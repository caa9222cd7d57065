"""Seed pictures: small files of each format, with what each can hold."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

SIDES = (12, 16)
MODES = {"RGBA": "PNG", "P": "PNG", "I;16": "PNG", "CMYK": "TIFF", "F": "TIFF", "1": "PNG"}
SINGLE = (
    *("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "DIB", "PPM", "TGA", "JPEG2000", "ICO"),
    *("QOI", "DDS", "PCX", "SGI"),
)
WORDS = {
    "picture": (
        *("acTL", "fcTL", "eXIf", "iCCP", "tEXt", "Exif", "NETSCAPE2.0", "ANMF", "VP8X", "ICCP"),
        *("8BPS", "qoif", "DDS ", "DX10", "jP2h", "ihdr", "ftyp", "http://ns.adobe.com/xap/1.0/"),
    ),
    "animation": (
        *("acTL", "fcTL", "fdAT", "IDAT", "IHDR", "IEND", "tRNS", "PLTE", "NETSCAPE2.0", "GIF89a"),
        *("ANIM", "ANMF", "VP8X", "VP8L", "VP8 ", "ALPH", "RIFF", "WEBP", "EXIF", "XMP "),
    ),
    "icon": ("IHDR", "IDAT", "IEND", "\\x00\\x00\\x01\\x00", "\\x28\\x00\\x00\\x00", "\\x89PNG"),
    "avif": (
        *("ftyp", "avif", "avis", "mif1", "heic", "meta", "hdlr", "pict", "iloc", "iinf", "infe"),
        *("iprp", "ipco", "ispe", "pixi", "av1C", "colr", "nclx", "prof", "irot", "imir", "auxC"),
        *("ipma", "mdat", "moov", "trak", "stts", "elst", "Exif", "iref", "auxl", "grid", "clap"),
    ),
}


def pictures() -> list[bytes]:
    """Return one file of each format, and one of each mode."""
    rgb, exif = _rgb(), _exif()
    found = []
    for kind in filter(_is_writable, SINGLE):
        options = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}
        found.append(_saved(rgb, kind, **options))
    for mode, kind in MODES.items():
        image = rgb.convert("L").convert("I;16") if mode == "I;16" else rgb.convert(mode)
        found.append(_saved(image, kind))
    compressed = [
        _saved(rgb, "TIFF", compression=each) for each in ("tiff_lzw", "jpeg", "tiff_deflate")
    ]
    progressive = _saved(rgb, "JPEG", progressive=True, comment=b"srsdk", dpi=(72, 72))
    return [*found, *compressed, progressive, _psd(), *_several("GIF", "PNG", "WEBP", "TIFF")]


def animations() -> list[bytes]:
    """Return files with several frames: transparent, cropped, looping, with odd durations."""
    clear = [_clear(turn) for turn in range(3)]
    times = {"duration": [0, 20, 70], "loop": 2}
    found = _several("GIF", "PNG", "WEBP", "TIFF")
    for blend, disposal in ((0, 0), (1, 1), (1, 2)):
        found.append(_animated(clear, "PNG", blend=blend, disposal=disposal, **times))
    found.append(_animated(clear, "PNG", default_image=True, **times))
    for disposal in (0, 1, 2, 3):
        found.append(_animated(clear, "GIF", disposal=disposal, optimize=False, **times))
    for options in ({"lossless": True}, {"quality": 40}, {"minimize_size": True}):
        found.append(_animated(clear, "WEBP", exif=_exif(), **options, **times))
    pages = [_rgb(), _rgb().convert("L").resize((5, 30)), _rgb().convert("CMYK").resize((40, 3))]
    return [*found, _animated(pages, "TIFF"), *_several("AVIF")]


def icons() -> list[bytes]:
    """Return icons of several pictures, as PNG files and as bitmaps."""
    large, sizes = _clear(1).resize((16, 16)), [(4, 4), (9, 7), (16, 16)]
    found = [_saved(large, "ICO", sizes=sizes, bitmap_format=kind) for kind in ("png", "bmp")]
    modes = [large.convert(mode) for mode in ("P", "1", "L", "RGB")]
    found += [_saved(image, "ICO", sizes=[(8, 8)], bitmap_format="bmp") for image in modes]
    # the directory alone
    return [*found, found[0][:22]]


def avifs() -> list[bytes]:
    """Return AVIF files, still and moving, and HEIF files where a plugin can write them."""
    found = []
    for kind in filter(_is_writable, ("AVIF", "HEIF")):
        found += [_saved(_rgb(), kind, exif=_exif(), quality=30), _saved(_clear(1), kind)]
        found += [_saved(_rgb().convert("L"), kind)]
    if _is_writable("AVIF"):
        found += [_saved(_rgb(), "AVIF", subsampling=each) for each in ("4:0:0", "4:4:4")]
        found += _several("AVIF")
    return found


def crafted() -> list[bytes]:
    """Return pictures that once took minutes, ran a program or ended in a foreign error."""
    jpeg, icon = _saved(_rgb(), "JPEG"), _saved(_rgb(), "ICO", sizes=[(8, 8)])
    frame = jpeg.index(b"\xff\xc0")
    # claims 3072x11808 pixels in some hundred bytes
    huge = jpeg[: frame + 5] + struct.pack(">HH", 11808, 3072) + jpeg[frame + 9 :]
    big = struct.pack("<HQHQHHQQQ", 1, 0, 1, 0, 282, 5, 1, 1 << 40, 0)
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    values = np.full((4, 4), np.nan, np.float32)
    comment = PngImagePlugin.PngInfo()
    comment.add_text("comment", "x" * 70_000, zip=True)
    return [
        huge,
        postscript,
        icon[:4] + b"\xff\xff" + icon[6:],
        b"\0\0\1\0\xff\xff",
        b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + big,
        _saved(Image.fromarray(values), "TIFF"),
        _saved(_rgb(), "PNG", pnginfo=comment) + b"\1",
    ]


def _several(*kinds: str) -> list[bytes]:
    frames = [_rgb(), *(_rgb().rotate(90 * turn) for turn in (1, 2))]
    return [_animated(frames, kind) for kind in filter(_is_writable, kinds)]


def _animated(frames: list[Image.Image], kind: str, **options: Any) -> bytes:
    return _saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _is_writable(kind: str) -> bool:
    Image.init()
    return kind in Image.SAVE


def _rgb() -> Image.Image:
    height, width = SIDES
    values = np.arange(height * width * 3, dtype=np.uint8)
    return Image.fromarray(values.reshape(height, width, 3))


def _clear(turn: int) -> Image.Image:
    image = _rgb().convert("RGBA")
    alpha = Image.new("L", image.size, 255)
    alpha.paste(0, (turn, 2, turn + 6, 9))
    image.putalpha(alpha)
    return image


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[274], exif[305] = 6, "srsdk"
    return exif


def _psd() -> bytes:
    """Return a PSD file without layers, which Pillow cannot write: three planes of raw bytes."""
    height, width = SIDES
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, height, width, 8, 3)
    return head + bytes(12) + bytes(2) + np.asarray(_rgb()).transpose(2, 0, 1).tobytes()
