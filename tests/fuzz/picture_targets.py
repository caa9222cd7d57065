"""Fuzz targets for picture files: one function, and seeds for each kind of file."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import zlib
from collections.abc import Callable, Sequence

from PIL import Image

from srsdk.budget import Budget
from srsdk.errors import SrsdkError
from srsdk.image import decode
from srsdk.scheduling.context import Call
from srsdk.upscaling import files
from tests.fuzz.workplace import NEAREST, stored

MAX_PIXELS = 1 << 18
"""Pillow's limit: small pictures are fast, and the limit is tested elsewhere."""
PNG = b"\x89PNG\r\n\x1a\n"
LIMITS = Budget(memory_bytes=1 << 30, pixels=1 << 16, pages=64)

if importlib.util.find_spec("pillow_heif"):
    importlib.import_module("pillow_heif").register_heif_opener()


def _target(*suffixes: str) -> Callable[[bytes], None]:
    return lambda data: _upscale(data, suffixes)


def _upscale(data: bytes, suffixes: Sequence[str]) -> None:
    """Upscale a picture file into memory and into a file.

    The last byte sets the format, and whether the chunks of a PNG file get their right checksums.
    """
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    last = data[-1] if data else 0
    suffix = suffixes[last % len(suffixes)]
    source = stored("picture/source", _with_checksums(data) if last < 128 else data)
    target = source.with_name(f"target{suffix}")
    with contextlib.suppress(SrsdkError):
        decode.probe(source, budget=LIMITS)
    with contextlib.suppress(SrsdkError):
        files.upscale_any((NEAREST,), source, None, Call(budget=LIMITS))
    try:
        files.upscale_file((NEAREST,), source, target, call=Call(budget=LIMITS))
    except SrsdkError:
        assert not target.exists(), "an error, but the target exists"
    target.unlink(missing_ok=True)
    assert {path.name for path in source.parent.iterdir()} == {source.name}, "leftover files"
    assert LIMITS.reserved_bytes == 0, "memory stays reserved"


def _with_checksums(data: bytes) -> bytes:
    """Return a PNG file, also one in an icon, whose chunks are not refused for their checksums."""
    found, at = bytearray(data), data.find(PNG)
    at = at + len(PNG) if at >= 0 else len(data)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 <= len(data):
            found[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(found)


picture = _target(".png", ".jpg", ".tiff", ".webp", ".gif", ".bmp")
animation = _target(".gif", ".png", ".webp", ".tiff")
icon = _target(".png", ".webp")
avif = _target(".png", ".avif")
