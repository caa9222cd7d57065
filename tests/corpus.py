"""Generate unusual picture files: modes, bit depths, byte orders and color spaces."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from tests.conftest import Picture

HEIGHT, WIDTH = 26, 38
NEEDS_VIPS = "needs pyvips: pip install 'srsdk[vips]'"

Deep = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Odd:
    """A picture file and its expected content."""

    path: Path
    """The file."""
    rgb: npt.NDArray[np.float64]
    """Expected pixels where opaque: (H, W, 3), 0..1 except for HDR."""
    bits: int
    """Bits per channel."""
    bands: int
    """Channels of a PNG result: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha."""


def smooth(height: int = HEIGHT, width: int = WIDTH) -> Picture:
    """Return a picture without noise, which survives palettes and conversions; (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [30 + x * 190 // width, 40 + y * 180 // height, 90 + (x + y) * 60 // (width + height)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def smooth16() -> Deep:
    """Return the same kind of picture with steps far below 1/255; (H, W, 3)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [20000 + 31 * x + 7 * y, 22000 + 11 * x + 29 * y, 30000 + 17 * (x + y)]
    return np.stack(planes, axis=-1).astype(np.uint16)


def mask() -> npt.NDArray[np.bool_]:
    """Return where the transparent pictures are opaque: a rectangle."""
    seen = np.zeros((HEIGHT, WIDTH), np.bool_)
    seen[5:-5, 6:-8] = True
    return seen


def profile(name: str = "sRGB") -> bytes:
    """Return an ICC profile made by LittleCMS."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()  # type: ignore[arg-type]


def display_p3() -> bytes:
    """Return a matrix profile with Display P3's primaries and sRGB's curve (ICC.1:2022)."""
    curve = b"para\0\0\0\0\0\3\0\0" + _s15(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    columns = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    tags = {key: b"XYZ \0\0\0\0" + _s15(*value) for key, value in columns.items()}
    return _icc(b"mntrRGB XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def odd_inks() -> bytes:
    """Return a CMYK profile whose cyan is green: readers that ignore it show other colors."""
    inks = [(100, 0, 0), (60, -60, 40), (50, 70, 0), (90, 0, 80), (20, 0, 0)]  # paper, C, M, Y, K
    corners = []
    for index in range(16):
        lab = np.array(inks[0], float)
        for ink in range(4):
            if index >> (3 - ink) & 1:
                lab = np.minimum(lab, inks[ink + 1]) if ink == 3 else (lab + inks[ink + 1]) / 2
        corners.append([lab[0] * 255 / 100, lab[1] + 128, lab[2] + 128])
    ramp = bytes(range(256))
    clut = np.rint(corners).astype(np.uint8).tobytes()
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + _s15(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return _icc(b"prtrCMYKLab ", {b"A2B0": lut + 4 * ramp + clut + 3 * ramp})


def _icc(kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return a profile of a class, color space and connection space (ICC.1:2022, chapter 7)."""
    text = "odd".encode("utf-16-be")
    name = b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text
    white = b"XYZ \0\0\0\0" + _s15(0.9642, 1.0, 0.8249)
    every = {b"desc": name, b"cprt": name, b"wtpt": white, **tags}
    table, data, start = b"", b"", 128 + 4 + 12 * len(every)
    for key, value in every.items():
        table += key + struct.pack(">II", start + len(data), len(value))
        data += value + b"\0" * (-len(value) % 4)
    body = struct.pack(">I", len(every)) + table + data
    head = struct.pack(">I4xI", 128 + len(body), 0x04300000) + kind
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + _s15(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + body


def _s15(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def png16(array: Deep) -> bytes:
    """Return a 16-bit PNG written without any library; (H, W, C), C of 1 to 4."""
    color = {1: 0, 2: 4, 3: 2, 4: 6}[array.shape[2]]
    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, color, 0, 0, 0)
    rows = array.astype(">u2").reshape(array.shape[0], -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff16(array: Deep, order: str) -> bytes:
    """Return an uncompressed 16-bit TIFF written without any library; `order` is `<` or `>`."""
    height, width, bands = array.shape
    data = array.astype(f"{order}u2").tobytes()
    bits = struct.pack(f"{order}{bands}H", *([16] * bands))
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, bands, 8 if bands > 2 else 16),
        (259, 3, 1, 1),
        (262, 3, 1, 2 if bands > 2 else 1),
        (273, 4, 1, 8 + len(bits)),
        (277, 3, 1, bands),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
        (284, 3, 1, 1),
    ]
    body = bits + data
    out = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body)) + body
    out += struct.pack(f"{order}H", len(tags))
    for tag, kind, count, value in tags:
        short = kind == 3 and count == 1
        form = f"{order}HHI" + ("HH" if short else "I")
        out += struct.pack(form, tag, kind, count, *([value, 0] if short else [value]))
    return out + struct.pack(f"{order}I", 0)


def build(folder: Path) -> dict[str, Odd]:
    """Write all files; return them by name."""
    found: dict[str, Odd] = {}
    _eight_bits(folder, found)
    _transparent(folder, found)
    _deep(folder, found)
    _other_colors(folder, found)
    return found


def _eight_bits(folder: Path, found: dict[str, Odd]) -> None:
    rgb = smooth()
    gray = np.asarray(Image.fromarray(rgb).convert("L"))
    bit = (rgb[..., 0] > 120)[..., None] * np.ones(3)
    for suffix in ("png", "jpg", "webp", "avif", "tiff", "bmp", "gif", "ppm", "tga", "jp2"):
        options: dict[str, Any] = {"quality": 100} if suffix in ("jpg", "webp", "avif") else {}
        path = folder / f"rgb.{suffix}"
        Image.fromarray(rgb).save(path, **options)
        found[path.name] = Odd(path, rgb / 255, 8, 3)
    for name, image, shown, bands in (
        ("gray.png", Image.fromarray(gray), gray[..., None] / 255 * np.ones(3), 1),
        ("palette.png", Image.fromarray(rgb).quantize(256), rgb / 255, 3),
        ("bit.png", Image.fromarray(bit[..., 0] > 0), bit, 1),
        ("bit.tiff", Image.fromarray(bit[..., 0] > 0), bit, 1),
    ):
        image.save(folder / name)
        found[name] = Odd(folder / name, shown, 8, bands)
    pyvips = pytest.importorskip("pyvips", reason=NEEDS_VIPS)
    picture = pyvips.Image.new_from_array(rgb).copy(interpretation="srgb")
    picture.pngsave(str(folder / "interlaced.png"), interlace=True)
    picture.jpegsave(str(folder / "progressive.jpg"), interlace=True, Q=100)
    for name in ("interlaced.png", "progressive.jpg"):
        found[name] = Odd(folder / name, rgb / 255, 8, 3)


def _transparent(folder: Path, found: dict[str, Odd]) -> None:
    rgb, seen = smooth(), mask()
    image = Image.fromarray(rgb)
    image.putalpha(Image.fromarray((seen * 255).astype(np.uint8)))
    gray = np.asarray(Image.fromarray(rgb).convert("L"))[..., None] / 255 * np.ones(3)
    image.save(folder / "rgba.png")
    image.save(folder / "rgba.webp", lossless=True)
    image.save(folder / "rgba.tiff")
    image.convert("LA").save(folder / "la.png")
    image.save(folder / "transparent.gif")
    palette = Image.fromarray(rgb).quantize(255)
    indices = np.asarray(palette).copy()
    indices[~seen] = 255
    with_hole = Image.fromarray(indices)
    with_hole.putpalette([*palette.getpalette()[: 3 * 255], 255, 0, 255])  # type: ignore[index]
    with_hole.save(folder / "palette_hole.png", transparency=255)
    for name in ("rgba.png", "rgba.webp", "rgba.tiff", "transparent.gif", "palette_hole.png"):
        found[name] = Odd(folder / name, rgb / 255, 8, 4)
    found["la.png"] = Odd(folder / "la.png", gray, 8, 2)


def _deep(folder: Path, found: dict[str, Odd]) -> None:
    rgb = smooth16()
    gray = rgb[..., :1]
    alpha = (mask() * 65535).astype(np.uint16)[..., None]
    for name, array in (
        ("deep_gray", gray),
        ("deep_la", np.dstack([gray, alpha])),
        ("deep_rgb", rgb),
        ("deep_rgba", np.dstack([rgb, alpha])),
    ):
        colors = array.shape[2] - (array.shape[2] in (2, 4))
        shown = array[..., :colors] / 65535 * np.ones(3)
        path = folder / f"{name}.png"
        path.write_bytes(png16(array))
        found[path.name] = Odd(path, shown, 16, array.shape[2])
        if array.shape[2] in (1, 3):
            for order, tag in (("<", "little"), (">", "big")):
                path = folder / f"{name}_{tag}.tiff"
                path.write_bytes(tiff16(array, order))
                found[path.name] = Odd(path, shown, 16, array.shape[2])
    pyvips = pytest.importorskip("pyvips", reason=NEEDS_VIPS)
    picture = pyvips.Image.new_from_array(rgb).copy(interpretation="rgb16")
    picture.pngsave(str(folder / "deep_interlaced.png"), interlace=True)
    picture.tiffsave(str(folder / "deep_tiled.tiff"), tile=True, compression="lzw")
    for name in ("deep_interlaced.png", "deep_tiled.tiff"):
        found[name] = Odd(folder / name, rgb / 65535, 16, 3)
    for name, array in (
        ("float_gray.tiff", gray / 65535),
        ("float_rgb.tiff", rgb / 65535),
        ("hdr_rgb.tiff", rgb / 65535 * 20),
    ):
        floats = pyvips.Image.new_from_array(array.astype(np.float32))
        floats.copy(interpretation="srgb" if array.shape[2] == 3 else "b-w").tiffsave(
            str(folder / name)
        )
        found[name] = Odd(folder / name, array * np.ones(3), 32, array.shape[2])


def _other_colors(folder: Path, found: dict[str, Odd]) -> None:
    rgb = smooth()
    lab = ImageCms.profileToProfile(
        Image.fromarray(rgb),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert lab is not None
    lab.save(folder / "lab.tiff")
    found["lab.tiff"] = Odd(folder / "lab.tiff", rgb / 255, 8, 3)
    cmyk = Image.fromarray(rgb).convert("CMYK")
    cmyk.save(folder / "cmyk.jpg", quality=100, subsampling=0)
    cmyk.save(folder / "cmyk.tiff")
    for name in ("cmyk.jpg", "cmyk.tiff"):
        found[name] = Odd(folder / name, rgb / 255, 8, 3)
