"""Pictures in HEIC and JPEG XL files, and how they are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pillow_heif
import pylibjxl
from PIL import ExifTags, Image, ImageCms

from srsdk.image.streams import source_of

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
HEIGHT, WIDTH = 48, 72


def picture() -> npt.NDArray[np.uint8]:
    """Return blocks of 8x8 pixels, which any codec keeps nearly as they are."""
    small = np.random.default_rng(1).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    return np.kron(small, np.ones((8, 8, 1), np.uint8))


def tags(orientation: int = 1) -> bytes:
    """Return EXIF with a maker and an orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


def heic(path: Path, array: npt.NDArray[np.uint8], **options: Any) -> Path:
    """Write a HEIC file, without a loss that could hide an error."""
    image = pillow_heif.from_pillow(Image.fromarray(array))
    image.save(path, quality=-1, chroma=444, **options)
    return path


def jxl(path: Path, array: npt.NDArray[np.uint8], **options: Any) -> Path:
    """Write a JPEG XL file without loss."""
    path.write_bytes(pylibjxl.encode(array, lossless=True, **options))
    return path


def apart(a: Any, b: Any) -> int:
    """Return the largest difference of two pictures."""
    assert np.shape(a) == np.shape(b)
    return int(np.abs(np.asarray(a).astype(int) - b).max())


def decode_source(data: bytes) -> Any:
    """Return bytes as a source for `decode.read`."""
    return source_of(data)
