"""HEIC files, as phones write them, by pillow-heif or by pi-heif, which decodes only."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from typing import Any

from PIL import Image

log = logging.getLogger("srsdk")

SUFFIXES = (".heic", ".heif", ".hif", ".heics", ".heifs")
_HEVC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_WIDE = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
_BRIGHT = {16: "PQ", 18: "HLG"}
"""Primaries and transfer functions that sRGB cannot stand for (ITU-T H.273)."""
_ANY = (b"mif1", b"msf1")
"""Brands of the container alone, whatever the coding (ISO/IEC 23008-12, annex B)."""


def is_heif(head: bytes) -> bool:
    """Return whether a file begins like HEIC; AVIF, which Pillow reads itself, does not."""
    if head[4:8] != b"ftyp":
        return False
    length = int.from_bytes(head[:4], "big")
    compatible = {head[at : at + 4] for at in range(16, min(length, len(head)), 4)}
    is_avif = bool(compatible & {b"avif", b"avis"})
    return head[8:12] in _HEVC or (head[8:12] in _ANY and not is_avif)


def register(library: str) -> None:
    """Teach Pillow to read HEIC files; writing them stays as it was.

    Args:
        library: `pillow_heif` or `pi_heif`.
    """
    if "HEIF" in Image.OPEN:
        return
    base: Any = importlib.import_module(library).HeifImageFile

    class HeicFile(base):  # type: ignore[misc]
        """Says what is lost: the library gives 8 bits a channel, and knows ICC profiles only."""

        _is_loaded = False

        def load(self) -> Any:
            """Decode the pixels; they are upright, and the EXIF says so."""
            for loss in () if self._is_loaded else _losses(self.info):
                log.warning("%s has %s", self.filename or "the picture", loss)
            self._is_loaded = True
            return super().load()

    Image.register_open("HEIF", HeicFile, is_heif)


def _losses(info: dict[str, Any]) -> Iterator[str]:
    bits = info.get("bit_depth", 8)
    if bits > 8:
        yield f"{bits} bits a channel, read as 8"
    stated = info.get("nclx_profile") or {}
    found = [
        _WIDE.get(stated.get("color_primaries", 1)),
        _BRIGHT.get(stated.get("transfer_characteristics", 1)),
    ]
    names = [name for name in found if name]
    if names and not info.get("icc_profile"):
        yield f"{' '.join(names)} colors without an ICC profile, read as sRGB: they will look dull"
